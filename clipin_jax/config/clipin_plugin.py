"""Plugs CLIPin into the config of a host; pages see it through `clipin_jax.config`."""

from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.class_arguments import arguments
from clipin_jax.config.key_origins import changes_config
from clipin_jax.errors import ClipinError, did_you_mean

_RELEASED: dict[str, Any] = dict(
    pre_projector=1024,
    projection_dim=8192,
    predictor="mlp",
    predictor_hidden_dim=2048,
    init="released",
    decay=0.95,
    view="second",
)
# What `:clipin` and `:clipin=NAME` stand for, the default first.
CLIPIN: dict[str, dict[str, Any]] = {
    # Chosen by the search `tuning` so far, see docs/guides/study.md.
    "recommended": _RELEASED
    | dict(init="orthogonal", predictor="residual", decay=0.99),
    "released": _RELEASED,
}
# What weights of a host lack: the heads of CLIPin, and projections that now start from
# the pre-projector.
_NOT_IN_HOSTS = ("^objectives_clipin/", "^towers/\\w+_(pre_projector|projection)/")
# What the target branch of the host's objectives sees, and that of CLIPin.
_VIEWS = {
    "second": ("second", "second"),
    "same": ("same", "same"),
    "second-separate": ("same", "second"),
}


@changes_config
def plug_clipin(
    config: ConfigDict,
    setting: str = "recommended",
    *,
    infonce_temperature: Any = None,
    **changes: Any,
) -> None:
    """Plugs CLIPin into a config: assignments into slots that exist without it.

    The config's name gets the ending `_clipin`, or `_clipin_SETTING` if the setting is
    not the first of `CLIPIN`.

    Args:
      config: has `objectives`, `model` and `data`.
      setting: a key of `CLIPIN`.
      infonce_temperature: as a control, the objective `momentum_infonce` at this
        temperature, such as 0.2, in place of `clipin`; None for `clipin`.
      changes: other values than the setting's: `pre_projector` (width), `init` (how the
        joint space and the heads start), `decay` (of the target; a number or a
        schedule), `symmetric` (the views also change places), `view`, and any argument
        of the objective, such as `terms` or `weight`. `view` is the one that the target
        branch sees: "second" or "same" for all objectives that have a target,
        "second-separate" for the second in CLIPin alone, which costs a forward pass
        more where the host has a momentum branch.

    Another control is close to the BYOL loss between modalities of arXiv 2305.08675:
    `terms=("inter",), projection_dim=128, predictor_hidden_dim=2048, decay=0.99`.

    Raises:
      ClipinError: an unknown setting, key or view.
    """
    if setting not in CLIPIN:
        raise ClipinError(f"CLIPin has no {setting!r}: {did_you_mean(setting, CLIPIN)}")
    name = "clipin" if infonce_temperature is None else "momentum_infonce"
    objective = CLIPIN[setting] | changes
    if infonce_temperature is not None:
        objective["temperature"] = infonce_temperature
    width, decay = objective.pop("pre_projector"), objective.pop("decay")
    view, symmetric = objective.pop("view"), objective.pop("symmetric", False)
    init = objective.pop("init")
    _check(name, objective, view)
    if config.get("target", {}).get("decay"):  # the host has a momentum branch
        for host_name, host in config.objectives.items():
            if "target_view" in arguments(f"objectives.{host_name}", host):
                host.target_view = _VIEWS[view][0]
    if "name" in config:  # a part of a config has none
        ending = "" if setting == next(iter(CLIPIN)) else f"_{setting}"
        config.name += f"_clipin{ending}"
    config.model.pre_projector = width
    config.model.projection_init = init
    kept = _NOT_IN_HOSTS if width else _NOT_IN_HOSTS[:1]
    config.init_keep = (*config.get("init_keep", ()), *kept)
    config.target = dict(decay=decay, symmetric=symmetric)
    config.data.views = 2
    own = dict(head_init=init, target_view=_VIEWS[view][1])
    config.objectives[name] = objective | own


def _check(name: str, objective: dict[str, Any], view: str) -> None:
    """Checks names; the objective is imported only for those of no setting."""
    unknown = set(objective).difference(*CLIPIN.values())
    if unknown:
        known = {*_RELEASED, "symmetric", *arguments(f"objectives.{name}", {})}
        for key in sorted(unknown - known):
            raise ClipinError(f"CLIPin has no {key!r}: {did_you_mean(key, known)}")
    if view not in _VIEWS:
        raise ClipinError(f"view is {view!r}: {did_you_mean(view, _VIEWS)}")
