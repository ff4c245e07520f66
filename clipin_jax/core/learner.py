"""The learner: one module with two towers and any number of objectives."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from ml_collections import ConfigDict

from clipin_jax.core.learner_parts import (
    MODALITIES,
    attention_choice,
    check_loss,
    check_model,
    check_objectives,
    compute_dtype,
    make_objective,
    make_tower,
)
from clipin_jax.core.lora import Lora, make_lora
from clipin_jax.errors import ClipinError, explained
from clipin_jax.models import IMAGE_TOWERS, TEXT_TOWERS
from clipin_jax.models.two_towers import TwoTowers
from clipin_jax.objectives.base import Inputs, Objective, averages_pairs
from clipin_jax.objectives.health import embedding_health
from clipin_jax.types import Array, Batch, Features, Hyper, Metrics, Pooled, View

OTHER_VIEW = {"view1": "view2", "view2": "view1"}
# View -> objective -> its loss and metrics.
Results = Mapping[str, Mapping[str, tuple[Array, Metrics]]]


class Learner(nn.Module):
    """Two towers and objectives, with one tree of parameters.

    The online branch sees view 1. An objective that uses the target network chooses its
    view with `target_view`: `second` or `same`.

    Attributes:
      towers: encode images and texts.
      objectives: name -> objective.
      symmetric: whether the views also swap their roles, as in BYOL; the loss is the
        mean over both directions.
      embedding_from: the objective whose `embed` returns the embeddings of evaluation;
        empty for the joint space of the towers.
      lora: low-rank factors of towers, which `create_state` adds.
    """

    towers: TwoTowers
    objectives: Mapping[str, Objective]
    symmetric: bool = False
    embedding_from: str = ""
    lora: tuple[Lora, ...] = ()

    @property
    def online_views(self) -> tuple[str, ...]:
        """The views of the online branch, one after the other."""
        return ("view1", "view2") if self.symmetric else ("view1",)

    @property
    def target_views(self) -> tuple[str, ...]:
        """The views of the target branch."""
        objectives = self.objectives_with("targets").values()
        views = [target_view(o, v) for v in self.online_views for o in objectives]
        return tuple(dict.fromkeys(views))

    @property
    def layer_order(self) -> dict[str, tuple[str, ...]]:
        """Path of each tower to the patterns that state the depth of its parameters."""
        towers = {"towers/image": self.towers.image, "towers/text": self.towers.text}
        return {path: getattr(t, "layer_order", ()) for path, t in towers.items()}

    def __call__(
        self,
        batch: Batch,
        targets: Mapping[str, Any],
        hyper: Hyper,
        train: bool = True,
        pooled: Pooled | None = None,
    ) -> tuple[Array, Metrics]:
        """Returns the loss of a batch and its metrics.

        Args:
          batch: `view1`, and `view2` if the data has two views.
          targets: from `targets`, applied with the target's parameters.
          hyper: hyper-parameters of this step, see `types.Hyper`.
          train: whether batch norms use and update batch statistics, and dropout is on.
          pooled: from `pool`, by view; a view that it lacks is encoded. With it,
            objectives that average over pairs are left to `core.micro_batches`.

        Returns:
          The scalar loss, and a flat dict of scalar metrics, including `loss`.
        """
        results: dict[str, dict[str, tuple[Array, Metrics]]] = {}
        for online in self.online_views:
            given = self._given(online, pooled)
            features = given or self.towers.encode(view_of(batch, online), train)
            inputs = self.make_inputs(batch, online, features, train)
            others = self._given(OTHER_VIEW[online], pooled)
            results[online] = {}
            for name, objective in self._of_whole_batch(pooled).items():
                own = inputs._replace(
                    targets=targets[online].get(name),
                    hyper=hyper["objectives"][name],
                    other_features=others,
                )
                with self.explaining(name):
                    result = check_loss(objective(own), f"objectives.{name}")
                results[online][name] = result
        return self.weigh(results, hyper)

    def weigh(self, results: Results, hyper: Hyper) -> tuple[Array, Metrics]:
        """Returns the weighted loss and the metrics of results, means over views."""
        means: dict[str, Array] = {}
        for of_view in results.values():
            total, metrics = jnp.zeros(()), {}
            for name, (loss, parts) in of_view.items():
                scalars = hyper["objectives"][name]
                weight = self.objectives[name].scalar("weight", scalars)
                total = total + weight * loss
                metrics |= {f"{name}/loss": loss, f"{name}/weight": weight}
                metrics |= {f"{name}/{part}": value for part, value in parts.items()}
            for name, value in {"loss": total, **metrics}.items():
                means[name] = means.get(name, 0.0) + value / len(results)
        return means["loss"], means

    def make_inputs(
        self, batch: Batch, online: str, features: Features, train: bool
    ) -> Inputs:
        """Returns what all objectives read alike; `features` without `embedding`."""
        return Inputs(
            towers=self.towers,
            view=view_of(batch, online),
            other_view=view_of(batch, OTHER_VIEW[online]),
            features=self.towers.embed(features),
            targets=None,
            hyper={},
            train=train,
        )

    @nn.nowrap
    def _of_whole_batch(self, pooled: Pooled | None) -> dict[str, Any]:
        """Returns the objectives to call; pieces run the others, see `__call__`."""
        return {
            name: objective
            for name, objective in self.objectives.items()
            if pooled is None or not averages_pairs(objective)
        }

    def pool(self, view: View, train: bool = True) -> dict[str, Array]:
        """Returns `pooled` [B, D] of each modality of a view."""
        return {m: f["pooled"] for m, f in self.towers.run(view, train).items()}

    def _given(self, name: str, pooled: Pooled | None) -> Features | None:
        """Returns the features of a view whose `pooled` are given, else None."""
        if pooled is None or name not in pooled:
            return None
        return self.towers.share({m: {"pooled": x} for m, x in pooled[name].items()})

    @contextlib.contextmanager
    def explaining(self, name: str) -> Iterator[None]:
        """Turns what an objective raises into one line, see `errors.explained`.

        Raises:
          ClipinError: it raised, or reads `embedding` where there is none.
        """
        with explained(f"objectives.{name}"):
            try:
                yield
            except KeyError as error:
                if self.towers.embed_dim or error.args != ("embedding",):
                    raise
                raise ClipinError(
                    f"objectives.{name} needs the joint space, but model.embed_dim is "
                    "0: give its width, or remove the objective"
                ) from None

    def targets(
        self, batch: Batch, train: bool = True, pooled: Pooled | None = None
    ) -> dict[str, Any]:
        """Returns the targets of the objectives; apply it with the target's parameters.

        Without an objective that has `targets`, no module runs and no parameter is
        averaged. With `pooled`, objectives are left out as in `__call__`.

        Returns:
          Online view -> objective -> result of its `targets`.
        """
        chosen = self._of_whole_batch(pooled).keys()
        features: dict[str, Features] = {}  # each view is encoded once
        targets: dict[str, Any] = {online: {} for online in self.online_views}
        for online in self.online_views:
            for name, objective in self.objectives_with("targets").items():
                if name not in chosen:
                    continue
                target = target_view(objective, online)
                view = view_of(batch, target)
                if target not in features:
                    given = self._given(target, pooled)
                    features[target] = given or self.towers.encode(view, train)
                with explained(f"objectives.{name}"):
                    targets[online][name] = objective.targets(
                        self.towers, view, features[target], train
                    )
        return targets

    @nn.nowrap  # `target_views` calls it on a learner that is not bound
    def objectives_with(self, method: str) -> dict[str, Any]:
        """Returns name -> objective for those that define an optional method."""
        # Look in the class: `hasattr` of a bound module would run its `setup`.
        objectives = self.objectives.items()
        return {name: o for name, o in objectives if hasattr(type(o), method)}

    def initialize(self, batch: Batch, hyper: Hyper) -> None:
        """Runs every module that has parameters, for `init`."""
        self(batch, self.targets(batch), hyper)

    def health(
        self, batch: Batch, targets: Mapping[str, Any], pooled: Pooled | None = None
    ) -> Metrics:
        """Returns health numbers: `embedding/number` and `objective/number`."""
        online = self.online_views[0]
        features = self._given(online, pooled)
        features = features or self.towers.encode(view_of(batch, online), train=True)
        groups = {
            name: objective.health(features, targets[online][name])
            for name, objective in self.objectives_with("health").items()
        }
        if self.towers.embed_dim:
            embedded = self.towers.embed(features)
            joint = {m: f["embedding"] for m, f in embedded.items()}
            groups["embedding"] = embedding_health(joint)
        return {
            f"{g}/{key}": x for g, part in groups.items() for key, x in part.items()
        }

    def encode(self, view: View) -> Features:
        """Returns the online features of a view's modalities, in evaluation mode."""
        features = self.towers.embed(self.towers.encode(view))
        if not self.embedding_from:
            return features
        objective = self.objectives_with("embed")[self.embedding_from]
        embeddings = objective.embed(features)
        return {
            modality: {**f, "embedding": embeddings[modality]}
            for modality, f in features.items()
        }

    @property
    def matchers(self) -> list[str]:
        """Names of the objectives that score pairs one by one."""
        return list(self.objectives_with("scores"))

    def match(self, text: Array, image_tokens: Array) -> Array:
        """Returns matching scores of pairs, from the first of `matchers`.

        Args:
          text: [B, L] int32.
          image_tokens: [B, N, D] of the image tower.

        Returns:
          [B] in at least float32, larger for better matches.
        """
        tokens = self.towers.encode({"text": text})["text"]["tokens"]
        objective = self.objectives_with("scores")[self.matchers[0]]
        return objective.scores(self.towers, text, tokens, image_tokens)

    def predictions(self, view: View) -> dict[str, Any]:
        """Returns the predictions of each objective that has some, without training."""
        features = self.towers.encode(view)
        return {
            name: objective.predictions(features)
            for name, objective in self.objectives_with("predictions").items()
        }

    def projections(self, view: View, name: str) -> Any:
        """Returns the targets of one objective, in evaluation mode.

        The view may have one modality only, if the objective treats them separately.
        """
        objective = self.objectives_with("targets")[name]
        return objective.targets(self.towers, view, self.towers.encode(view), False)


def view_of(batch: Batch, name: str) -> View:
    """Returns a view of the batch; the first one if there is only one."""
    return batch.get(name, batch["view1"])


def target_view(objective: Any, online: str) -> str:
    """Returns the view that the targets of an objective are made of."""
    return online if objective.target_view == "same" else OTHER_VIEW[online]


def build(config: ConfigDict) -> Learner:
    """Builds the learner that a config describes.

    Towers and objectives are names in our tables or "module:Class". An objective's
    `type` is its own key in `config.objectives` unless the config gives another.

    Args:
      config: of a run; its data and evaluations are not read.

    Raises:
      ClipinError: an unknown name, an argument that the class does not have, a
        negative width, an unknown attention, a mean or deviation that pixels cannot
        have, or low-rank factors that make no sense.
    """
    dtypes: dict[str, Any] = dict(
        dtype=compute_dtype(config.model, "dtype"),
        param_dtype=compute_dtype(config.model, "param_dtype"),
    )
    shared = dtypes | dict(scan_layers=config.model.scan_layers)
    optional = dict(attention=attention_choice(config.model))
    check_model(config.model)
    image, text = (shared | dict(remat=config.model.remat[m]) for m in MODALITIES)
    towers = TwoTowers(
        image=make_tower(
            IMAGE_TOWERS, "model.image", config.model.image, image, optional=optional
        ),
        text=make_tower(
            TEXT_TOWERS, "model.text", config.model.text, text, optional=optional
        ),
        embed_dim=config.model.embed_dim,
        pre_projector=config.model.pre_projector,
        projection=FrozenDict(config.model.projection.to_dict()),
        image_mean=tuple(config.model.image_mean),
        image_std=tuple(config.model.image_std),
        # A run from before this key has none.
        projection_init=config.model.get("projection_init", "released"),
        **dtypes,
    )
    objectives = {
        name: make_objective(name, spec, dtypes)
        for name, spec in config.objectives.items()
    }
    # Frozen dicts are hashable: equal learners share compiled programs.
    learner = Learner(
        towers=towers,
        objectives=FrozenDict(objectives),
        symmetric=config.target.symmetric,
        embedding_from=config.model.embedding_from,
        lora=make_lora(config.model),
    )
    check_objectives(learner.objectives, learner.embedding_from)
    return learner
