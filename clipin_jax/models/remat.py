"""What the backward pass keeps of a block, and what it computes again."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax

from clipin_jax.models.layers import check_option

_POLICIES = jax.checkpoint_policies
AGAIN = "rematted_computation"  # the scope that jax gives what it computes again

# Name -> what is kept of a block besides its input.
POLICIES: dict[str, Callable[..., Any] | None] = {
    "full": _POLICIES.nothing_saveable,
    # Products of matrices; not those of attention, which have batch axes.
    "dots_no_batch": _POLICIES.dots_with_no_batch_dims_saveable,
    "dots": _POLICIES.dots_saveable,
    # As dots_no_batch, but kept in the memory of the host, where the platform can.
    "offload": _POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"),
    "none": None,
}


def computed_again() -> contextlib.AbstractContextManager[Any]:
    """Marks what is traced inside as computed a second time, as jax marks it itself.

    The work of a model is counted without it, see `training.measures.model_flops`.
    """
    return jax.named_scope(AGAIN)


def with_remat(
    block: Any,
    policy: str,
    *,
    prevent_cse: bool = True,
    static_argnums: Sequence[int] = (),
) -> Any:
    """Returns a module class whose backward pass computes again what is not kept.

    Args:
      block: a flax module class.
      policy: a key of `POLICIES`: `none` keeps everything, `full` only inputs.
      prevent_cse: whether the compiler must not undo it; false in a loop over layers,
        where it cannot.
      static_argnums: of its `__call__`, counted from 0 for self.

    Raises:
      ClipinError: an unknown policy.
    """
    check_option("model.remat of a tower", policy, POLICIES)
    if POLICIES[policy] is None:
        return block
    return nn.remat(
        block,
        policy=POLICIES[policy],
        prevent_cse=prevent_cse,
        static_argnums=tuple(static_argnums),
    )
