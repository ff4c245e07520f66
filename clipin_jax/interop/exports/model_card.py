"""The model card of an exported folder, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import clipin_jax
from clipin_jax.config import resolve
from clipin_jax.interop.exports.folder import Contents
from clipin_jax.interop.exports.requirements import config_value
from clipin_jax.interop.exports.trained_model import TrainedModel

UNKNOWN_LICENSE = "other"
_SETTINGS = (
    "name", "seed", "batch_size", "total_steps", "optim.name", "model.embed_dim",
    "model.pre_projector", "data.context_length", "data.tokenizer.name",
    "data.augment.interpolation",
)  # fmt: skip
_GROUPS = ("model.image", "model.text", "objectives")
# A value that starts so is a place on the machine of the run.
_PLACES = ("/", "~", ".")


def model_card(model: TrainedModel, contents: Contents, target: str) -> str:
    """Returns the card, in Markdown.

    It names no folder of the machine: of data it states the kind of source alone.

    Args:
      model: that is exported.
      contents: of the folder.
      target: name of the folder, for the code that loads it.
    """
    facts = model.facts
    title = f"# {facts.name}, step {facts.step:,}"
    origin = (
        "Trained with clipin_jax "
        f"{clipin_jax.__version__}, which also wrote this folder: `{facts.command}`"
    )
    usage = contents.usage.replace("FOLDER", target).rstrip()
    parts = [
        _front_matter(model, contents), title, origin, *contents.notes,
        "## Use", f"```python\n{usage}\n```",
        "## Scores", *_scores(model),
        "## Data", _data(model),
        "## Config", _table(("key", "value"), _settings(model)),
    ]  # fmt: skip
    if facts.license == UNKNOWN_LICENSE:
        parts += [
            "## License",
            "Not stated yet: fill in `license` above, and this line.",
        ]
    return "\n\n".join(parts) + "\n"


def _front_matter(model: TrainedModel, contents: Contents) -> str:
    tags = ["clip", "clipin_jax", *model.config.objectives]
    lines = [
        "---",
        f"license: {model.facts.license}",
        f"library_name: {contents.library}",
        "pipeline_tag: zero-shot-image-classification",
        "tags:",
        *(f"- {tag}" for tag in dict.fromkeys(tags)),
        "---",
    ]
    return "\n".join(lines)


def _scores(model: TrainedModel) -> Iterator[str]:
    facts = model.facts
    if not facts.scores:
        yield f"The run was not evaluated at step {facts.step:,}."
        return
    yield f"Of the run's own evaluations, at step {facts.step:,}:"
    yield _table(("score", "value", "chance"), facts.scores)


def _data(model: TrainedModel) -> str:
    source = model.config.data.source
    return f"Source: `{source.name}`. Name the data here, with its license."


def _settings(model: TrainedModel) -> Iterator[tuple[str, Any]]:
    for key in _SETTINGS:
        if (value := config_value(model.config, key)) is not None:
            yield key, value
    tree = resolve(model.config)
    for group in _GROUPS:
        branch: Any = tree
        for name in group.split("."):
            branch = branch[name]
        yield from _leaves(group, branch)


def _leaves(prefix: str, branch: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(branch, dict):
        if not str(branch).startswith(_PLACES):
            yield prefix, branch
        return
    for name, value in branch.items():
        yield from _leaves(f"{prefix}.{name}", value)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
