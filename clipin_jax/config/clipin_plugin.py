"""CLIPin as configs plug it into a host: named settings, and the slots they go to.

Config files see this module through `clipin_jax.config`.
"""

from typing import Any

from ml_collections import ConfigDict

from clipin_jax.config.origins import changes_config
from clipin_jax.errors import ClipinError, did_you_mean

_RELEASED: dict[str, Any] = dict(
    pre_projector=1024,
    projection_dim=8192,
    predictor_hidden_dim=2048,
    terms=("inter", "intra"),
    weight=1.0,
    inter_weight=1.0,
    intra_weight=1.0,
    decay=0.95,
    view="second",
    symmetric=False,
)
# What `:clipin` and `:clipin=NAME` stand for, the one meant without a name first.
CLIPIN: dict[str, dict[str, Any]] = {
    "released": _RELEASED,
    # What the study `tuning` found best, see docs/study.md.
    "tuned": _RELEASED | dict(pre_projector=0, terms=("intra",), weight=3.0),
}


@changes_config
def plug_clipin(
    config: ConfigDict,
    setting: str = "released",
    *,
    infonce_temperature: Any = None,
    **changes: Any,
) -> None:
    """Plugs CLIPin into a config: four assignments into slots that exist without it.

    `setting` is a key of `CLIPIN`, `changes` are other values for its keys. Weights and
    decay are numbers or schedules. `terms` may be one of the two. `view` is the one
    that the target branch sees: "second" or "same" for all objectives that ask it,
    "second-separate" for the second in CLIPin alone, so that the host's own momentum
    branch stays as it is, for one forward pass more. `symmetric` also takes the views
    the other way. The config's name gets the ending `_clipin`, or `_clipin_SETTING`.

    Two controls: `infonce_temperature` (0.2, say) keeps heads and target, but lets each
    prediction find its target among the batch's (objective `momentum_infonce`). And
    `terms=("inter",), projection_dim=128, predictor_hidden_dim=2048, decay=0.99` is
    close to the BYOL loss between modalities of arXiv 2305.08675.

    Raises ClipinError for an unknown setting, key or view.
    """
    for name, known in ((setting, CLIPIN), *((key, _RELEASED) for key in changes)):
        if name not in known:
            raise ClipinError(f"CLIPin has no {name!r}: {did_you_mean(name, known)}")
    plug = CLIPIN[setting] | changes
    views = {"second": ("second",) * 2, "same": ("same",) * 2}
    views["second-separate"] = ("same", "second")
    view = plug.pop("view")
    if view not in views:
        raise ClipinError(f"view is {view!r}: {did_you_mean(view, views)}")
    hosts, own = views[view]
    for objective in config.objectives.values():
        if "target_view" in objective:
            objective.target_view = hosts
    if "name" in config:  # a part of one has none
        config.name += "_clipin" + (f"_{setting}" if setting != "released" else "")
    config.model.pre_projector = plug.pop("pre_projector")
    config.target = dict(decay=plug.pop("decay"), symmetric=plug.pop("symmetric"))
    config.data.views = 2
    plug["target_view"] = own
    if infonce_temperature is None:
        config.objectives.clipin = plug
    else:
        temperature = dict(temperature=infonce_temperature)
        config.objectives.momentum_infonce = plug | temperature
