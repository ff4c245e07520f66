"""The one module: towers and objectives. It knows none of them by name."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.models import IMAGE_TOWERS, TEXT_TOWERS
from clipin_jax.models.two_towers import TwoTowers
from clipin_jax.objectives import OBJECTIVES
from clipin_jax.objectives.base import Inputs
from clipin_jax.types import Array, Batch, Features, Hyper, Metrics, View

TARGET_VIEWS = ("second", "same")
OTHER = {"view1": "view2", "view2": "view1"}


class Learner(nn.Module):
    """Towers plus a dict of objectives; one parameter tree, named by role.

    The online branch sees view 1. What the target branch sees is for each objective
    that asks it to say: `target_view` is `second` or `same`.

    Attributes:
      towers: what encodes images and texts.
      objectives: name to objective.
      symmetric: whether the views also take each other's part, as in BYOL; the loss is
        the mean over both ways.
      embedding_from: the objective whose `embed` makes the embeddings of evaluation;
        empty for the joint space of the towers.
    """

    towers: TwoTowers
    objectives: Mapping[str, nn.Module]
    symmetric: bool = False
    embedding_from: str = ""

    @property
    def online_views(self) -> tuple[str, ...]:
        """The views that the online branch sees, one after the other."""
        return ("view1", "view2") if self.symmetric else ("view1",)

    def __call__(
        self, batch: Batch, targets: Mapping[str, Any], hyper: Hyper, train: bool = True
    ) -> tuple[Array, Metrics]:
        """The loss of a batch and its parts.

        Args:
          batch: `view1`, and `view2` where the data has two views.
          targets: what `targets` returned under the target's parameters.
          hyper: this step's numbers, see `types.Hyper`.
          train: whether batch norms use and move batch statistics, and dropout drops.

        Returns:
          The scalar loss, and a flat dict of metrics.
        """
        sums: dict[str, Array] = {}
        for online in self.online_views:
            metrics = self._one_way(batch, online, targets[online], hyper, train)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value / len(self.online_views)
        return sums["loss"], sums

    def _one_way(
        self,
        batch: Batch,
        online: str,
        targets: Mapping[str, Any],
        hyper: Hyper,
        train: bool,
    ) -> dict[str, Array]:
        view, other = _view(batch, online), _view(batch, OTHER[online])
        features = self.towers.embed(self.towers.encode(view, train))
        total, metrics = jnp.zeros(()), {}
        for name, objective in self.objectives.items():
            numbers = hyper["objectives"][name]
            loss, parts = objective(
                Inputs(
                    self.towers,
                    view,
                    other,
                    features,
                    targets.get(name),
                    numbers,
                    train,
                )  # fmt: skip
            )
            weight = objective.scalar("weight", numbers)
            total = total + weight * loss
            metrics |= {f"{name}/loss": loss, f"{name}/weight": weight}
            metrics |= {f"{name}/{part}": value for part, value in parts.items()}
        return {"loss": total, **metrics}

    def targets(self, batch: Batch, train: bool = True) -> dict[str, Any]:
        """What the objectives ask of the target network; run with its parameters.

        Touches no module, and so averages no parameter, when none asks.

        Returns:
          Per online view, per asking objective, whatever it wants.
        """
        asking = self._objectives_with("targets")
        features: dict[str, Features] = {}  # each view is encoded once
        targets: dict[str, Any] = {name: {} for name in self.online_views}
        for online, answers in targets.items():
            for name, objective in asking.items():
                seen = online if objective.target_view == "same" else OTHER[online]
                view = _view(batch, seen)
                if seen not in features:
                    features[seen] = self.towers.encode(view, train)
                answers[name] = objective.targets(
                    self.towers, view, features[seen], train
                )
        return targets

    def _objectives_with(self, method: str) -> dict[str, Any]:
        # Asked of the class: a module that is asked sets itself up, parameters and all.
        objectives = self.objectives.items()
        return {name: o for name, o in objectives if hasattr(type(o), method)}

    def initialize(self, batch: Batch, hyper: Hyper) -> None:
        """Touches every parameter, for `init`."""
        self(batch, self.targets(batch), hyper)

    def health(self, batch: Batch, targets: Mapping[str, Any]) -> Metrics:
        """The health numbers of every objective that has some."""
        online = self.online_views[0]
        features = self.towers.encode(_view(batch, online), train=True)
        return {
            f"{name}/{key}": value
            for name, objective in self._objectives_with("health").items()
            for key, value in objective.health(features, targets[online][name]).items()
        }

    def encode(self, view: View) -> Features:
        """Online features of the modalities in the view, for evaluation."""
        features = self.towers.embed(self.towers.encode(view))
        if not self.embedding_from:
            return features
        embeddings = self.objectives[self.embedding_from].embed(features)
        return {
            modality: {**f, "embedding": embeddings[modality]}
            for modality, f in features.items()
        }

    @property
    def matchers(self) -> list[str]:
        """The objectives that can score pairs one by one."""
        return list(self._objectives_with("scores"))

    def match(self, text: Array, image_tokens: Array) -> Array:
        """How well texts and images match, by the first objective that says so.

        Args:
          text: [B, L] int32.
          image_tokens: [B, N, D] of the image tower.

        Returns:
          [B] in at least float32.
        """
        tokens = self.towers.encode({"text": text})["text"]["tokens"]
        objective: Any = self.objectives[self.matchers[0]]
        return objective.scores(self.towers, text, tokens, image_tokens)

    def predictions(self, view: View) -> dict[str, Any]:
        """What objectives with online predictions predict, in evaluation mode."""
        features = self.towers.encode(view)
        return {
            name: objective.predictions(features)
            for name, objective in self._objectives_with("predictions").items()
        }

    def projections(self, view: View, name: str) -> Any:
        """What one objective asks of the target network, in evaluation mode.

        The view may lack a modality that the objective does not need for the others.
        """
        objective: Any = self.objectives[name]
        return objective.targets(self.towers, view, self.towers.encode(view), False)


def _view(batch: Batch, name: str) -> View:
    return batch.get(name, batch["view1"])


def build(config: ConfigDict) -> Learner:
    """Builds the learner that a config describes.

    Raises:
      ClipinError: a name that is in no table, or an argument that its class lacks.
    """
    dtypes: dict[str, Any] = dict(
        dtype=jnp.dtype(config.model.dtype),
        param_dtype=jnp.dtype(config.model.param_dtype),
    )
    stack = dict(scan_layers=config.model.scan_layers, remat=config.model.remat)
    image = _make(IMAGE_TOWERS, "model.image", config.model.image, **stack, **dtypes)
    text = _make(TEXT_TOWERS, "model.text", config.model.text, **stack, **dtypes)
    towers = TwoTowers(
        image,
        text,
        embed_dim=config.model.embed_dim,
        pre_projector=config.model.pre_projector,
        projection=FrozenDict(config.model.projection.to_dict()),
        image_mean=tuple(config.model.image_mean),
        image_std=tuple(config.model.image_std),
        **dtypes,
    )
    objectives = {
        name: _make_objective(name, spec, dtypes)
        for name, spec in config.objectives.items()
    }
    # Frozen, so that equal learners have equal hashes and share what is compiled.
    learner = Learner(
        towers,
        FrozenDict(objectives),
        config.target.symmetric,
        config.model.embedding_from,
    )
    _check(learner)
    return learner


def _check(learner: Learner) -> None:
    for name, objective in learner.objectives.items():
        view = getattr(objective, "target_view", TARGET_VIEWS[0])
        if view not in TARGET_VIEWS:
            raise ClipinError(
                f"objectives.{name}.target_view is {view!r}: use one of {TARGET_VIEWS}"
            )
    able = [n for n, o in learner.objectives.items() if hasattr(type(o), "embed")]
    if learner.embedding_from and learner.embedding_from not in able:
        raise ClipinError(
            f"model.embedding_from is {learner.embedding_from!r}: use '' for the joint "
            f"space, or an objective that can embed (here {able or 'none'})"
        )


def _make_objective(name: str, spec: ConfigDict, dtypes: dict[str, Any]) -> nn.Module:
    scalars = OBJECTIVES[name].scalars if name in OBJECTIVES else {}
    arguments = {k: v for k, v in spec.items() if k not in scalars}
    learned = tuple(scalar for scalar in scalars if spec.get(scalar) == "learned")
    arguments["name"] = name
    return _make(OBJECTIVES, f"objectives.{name}", arguments, learned=learned, **dtypes)


def _make(
    table: Mapping[str, type], where: str, spec: Mapping[str, Any], **shared: Any
) -> nn.Module:
    """Builds the module that `spec.name` names in a table, with the other keys."""
    arguments = dict(spec)
    name = arguments.pop("name")
    if name not in table:
        raise ClipinError(f"{where}: {name!r} is unknown; known are {sorted(table)}")
    known = set(table[name].__dataclass_fields__)
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise ClipinError(f"{where} ({name}) has no argument {', '.join(unknown)}")
    arguments = {
        k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()
    }
    return table[name](**arguments, **shared)
