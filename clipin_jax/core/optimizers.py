"""The optimizers: a table of rules that turn gradients into a direction of descent.

A rule is a function `(decay, **arguments) -> optax.GradientTransformation`. It applies
`decay`, which adds the decayed weights, where its paper does. It has no learning rate,
clipping or bounds, see `optimizer_chain`. If a config names a function whose first
argument is `learning_rate`, as in optax (`optax:adamaxw`), that is called with a
learning rate of 1, and weights decay after it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
from optax import GradientTransformation

from clipin_jax.core.parameter_paths import Params, map_paths
from clipin_jax.errors import ClipinError
from clipin_jax.types import Array

Rule = Callable[..., GradientTransformation]


def adamw(
    decay: GradientTransformation,
    *,
    b1: float = 0.9,
    b2: float = 0.98,
    eps: float = 1e-6,
    mu_dtype: str | None = None,
    nesterov: bool = False,
) -> GradientTransformation:
    """Returns AdamW, arXiv 1711.05101, with CLIP's defaults.

    Args:
      decay: adds the decayed weights.
      b1: share of the first moment that a step keeps.
      b2: share of the second moment that a step keeps.
      eps: added to the root of the second moment.
      mu_dtype: of the first moment, such as "bfloat16"; None for the parameter's.
      nesterov: whether the first moment looks one step ahead.
    """
    _check_shares(b1=b1, b2=b2)
    adam = optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nesterov=nesterov)
    return optax.chain(adam, decay)


def lion(
    decay: GradientTransformation,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    mu_dtype: str | None = None,
) -> GradientTransformation:
    """Returns Lion, arXiv 2302.06675: the sign of one moment.

    Learning rates should be 3 to 10 times lower than for AdamW, decay as much higher.

    Args:
      decay: adds the decayed weights.
      b1: share of the moment in the direction of a step.
      b2: share of the moment that a step keeps.
      mu_dtype: of the moment; None for the parameter's.
    """
    _check_shares(b1=b1, b2=b2)
    return optax.chain(optax.scale_by_lion(b1, b2, mu_dtype), decay)


def lamb(
    decay: GradientTransformation,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    mu_dtype: str | None = None,
) -> GradientTransformation:
    """Returns LAMB, arXiv 1904.00962: Adam, scaled to the norm of each parameter.

    A stack of scanned layers is one parameter, with one norm.

    Args:
      decay: adds the decayed weights.
      b1: share of the first moment that a step keeps.
      b2: share of the second moment that a step keeps.
      eps: added to the root of the second moment.
      mu_dtype: of the first moment; None for the parameter's.
    """
    _check_shares(b1=b1, b2=b2)
    adam = optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype)
    return optax.chain(adam, decay, optax.scale_by_trust_ratio())


def adafactor(
    decay: GradientTransformation,
    *,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = False,
    momentum: float | None = None,
    dtype_momentum: str = "float32",
    eps: float = 1e-30,
) -> GradientTransformation:
    """Returns Adafactor, arXiv 1804.04235: second moments of rows and columns only.

    Args:
      decay: adds the decayed weights.
      min_dim_size_to_factor: matrices with a smaller side keep their whole second
        moment.
      decay_rate: the second moment forgets with 1 - step ** -decay_rate.
      decay_offset: the step from which steps are counted, for fine-tuning.
      clipping_threshold: of the root mean square of an update; None for none.
      multiply_by_parameter_scale: whether learning rates are relative to a parameter's
        root mean square, as in the paper; otherwise they are like those of AdamW.
      momentum: of a first moment; None for none, which saves most memory.
      dtype_momentum: of that moment, such as "bfloat16".
      eps: added to squared gradients.
    """
    if not decay_rate > 0:
        raise ClipinError(f"optim.decay_rate is {decay_rate:g}: it must be above 0")
    parts = [
        optax.scale_by_factored_rms(
            decay_rate=decay_rate,
            step_offset=decay_offset,
            min_dim_size_to_factor=min_dim_size_to_factor,
            epsilon=eps,
        )
    ]
    if clipping_threshold is not None:
        parts.append(optax.clip_by_block_rms(clipping_threshold))
    if multiply_by_parameter_scale:
        parts.append(optax.scale_by_param_block_rms())
    if momentum is not None:
        _check_shares(momentum=momentum)
        parts.append(
            optax.ema(momentum, debias=False, accumulator_dtype=dtype_momentum)
        )
    return optax.chain(*parts, decay)


def sgd(
    decay: GradientTransformation,
    *,
    momentum: float | None = 0.9,
    nesterov: bool = False,
    accumulator_dtype: str | None = None,
) -> GradientTransformation:
    """Returns gradient descent with momentum; decay is added before momentum.

    Args:
      decay: adds the decayed weights.
      momentum: share of the momentum that a step keeps; None for none.
      nesterov: whether the momentum looks one step ahead.
      accumulator_dtype: of the momentum; None for the parameter's.
    """
    if momentum is None:
        return decay
    _check_shares(momentum=momentum)
    return optax.chain(decay, optax.trace(momentum, nesterov, accumulator_dtype))


def muon(
    decay: GradientTransformation,
    *,
    beta: float = 0.95,
    ns_steps: int = 5,
    nesterov: bool = True,
    mu_dtype: str | None = None,
    consistent_rms: float | None = 0.2,
    adam_b1: float = 0.9,
    adam_b2: float = 0.98,
    eps: float = 1e-8,
) -> GradientTransformation:
    """Returns Muon for matrices of linear layers, scanned or not, and Adam for others.

    Args:
      decay: adds the decayed weights.
      beta: share of the momentum of a matrix that a step keeps.
      ns_steps: steps of the iteration that orthogonalizes the momentum.
      nesterov: whether the momentum looks one step ahead.
      mu_dtype: of the first moments; None for the parameter's.
      consistent_rms: scales the update of a matrix to that root mean square, so that
        AdamW's learning rates suit both (arXiv 2502.16982); None for Muon's scale.
      adam_b1: share of Adam's first moment that a step keeps.
      adam_b2: share of Adam's second moment that a step keeps.
      eps: added to norms of matrices, and to the root of Adam's second moment.
    """
    _check_shares(beta=beta, adam_b1=adam_b1, adam_b2=adam_b2)
    both = optax.contrib.muon(
        1.0,
        ns_steps=ns_steps,
        beta=beta,
        eps=eps,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        muon_weight_dimension_numbers=_matrices,
        consistent_rms=consistent_rms,
    )
    return optax.chain(both, optax.scale(-1.0), decay)


def _check_shares(**shares: float) -> None:
    """Checks how much of a running mean each step keeps."""
    for key, share in shares.items():
        if not 0 <= share < 1:
            raise ClipinError(
                f"optim.{key} is {share:g}: give a number of at least 0 and below 1"
            )


def _matrices(params: Params) -> Params:
    """Returns the axes of each matrix of a linear layer; None for others."""

    def axes(path: str, leaf: Array) -> Any:
        if not path.endswith("kernel") or leaf.ndim not in (2, 3):
            return None
        return optax.contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

    return map_paths(axes, params)


OPTIMIZERS: dict[str, Rule] = {
    "adafactor": adafactor,
    "adamw": adamw,
    "lamb": lamb,
    "lion": lion,
    "muon": muon,
    "sgd": sgd,
}


def direction(
    rule: Rule, decay: GradientTransformation, arguments: Mapping[str, Any]
) -> GradientTransformation:
    """Returns the transformation of gradients to a direction of descent, with decay."""
    parameters = inspect.signature(rule).parameters
    if next(iter(parameters), None) != "learning_rate":
        return _transformation(rule(decay, **arguments))
    none = {"weight_decay": 0.0} if "weight_decay" in parameters else {}
    descent = _transformation(rule(learning_rate=1.0, **none, **arguments))
    return optax.chain(descent, optax.scale(-1.0), decay)


def _transformation(built: Any) -> GradientTransformation:
    if not hasattr(built, "init") or not hasattr(built, "update"):
        raise TypeError(
            "it must return an optax.GradientTransformation, but returned an object of "
            f"type {type(built).__name__}"
        )
    return built
