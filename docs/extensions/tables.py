"""The reference of the tables: what a config may name, with the keys of each."""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from clipin_jax.config.class_arguments import PARTS, REQUIRED, arguments, target_of
from clipin_jax.config.descriptions import describe_arguments, describe_recipe_key


class Listed(NamedTuple):
    """A table, and a place in a config where its entries stand."""

    table: str
    place: str


_TABLES = {
    "objectives": Listed("clipin_jax.objectives:OBJECTIVES", "objectives.NAME"),
    "image towers": Listed("clipin_jax.models:IMAGE_TOWERS", "model.image"),
    "text towers": Listed("clipin_jax.models:TEXT_TOWERS", "model.text"),
    "sources": Listed("clipin_jax.data.sources:SOURCES", "data.source"),
    "evaluators": Listed("clipin_jax.evaluators:EVALUATORS", "evals.NAME"),
    "optimizers": Listed("clipin_jax.core.optimizers:OPTIMIZERS", "optim"),
    "schedules": Listed(
        "clipin_jax.core.schedules:SCHEDULES", "optim.learning_rate"
    ),
    "tokenizers": Listed("clipin_jax.data.text:TOKENIZERS", "data.tokenizer"),
    "transforms": Listed(
        "clipin_jax.data.image:TRANSFORMS", "data.augment.transforms.NAME"
    ),
    "loggers": Listed("clipin_jax.runs.loggers.table:LOGGERS", "log.NAME"),
    "checkpoints": Listed("clipin_jax.runs.checkpoint:Checkpoints", "checkpoint"),
    "decoding": Listed(
        "clipin_jax.inference.generation:Decoding", "evals.NAME.decoding"
    ),
    "low-rank factors": Listed("clipin_jax.core.lora:Lora", "model.lora.image"),
}  # fmt: skip
_SECTIONS = ("Args:", "Attributes:", "Scalars:")


def entries(listed: Listed) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields name and class of a table; the one class that stands in place of one."""
    module, _, name = listed.table.partition(":")
    table = getattr(importlib.import_module(module), name)
    if isinstance(table, Mapping):
        yield from table.items()
    else:
        yield "", table


def section(listed: Listed) -> str:
    """Returns a section for each entry of a table, in Markdown."""
    [key] = {part.key for part in PARTS if part.table == listed.table}
    return "\n".join(
        _entry(listed.place, {key: name} if name else {}, name, target)
        for name, target in entries(listed)
    )


GENERATORS: dict[str, Callable[[], str]] = {
    name.replace("-", " "): functools.partial(section, listed)
    for name, listed in _TABLES.items()
}


def _entry(
    place: str, group: Mapping[str, Any], name: str, target: Callable[..., Any]
) -> str:
    kind = kind_of(target)
    path = f"{target.__module__}.{target.__qualname__}"
    lines = [f"## {name}\n"] if name else []
    lines.append(f"```{{eval-rst}}\n.. auto{kind}:: {path}\n```\n")
    if rows := _rows(place, group):
        lines += [
            f"| key of `{place}` | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    return "\n".join(lines)


def kind_of(target: Callable[..., Any]) -> str:
    """Returns the word of autodoc for a class or a function."""
    return "class" if inspect.isclass(target) else "function"


def _rows(place: str, group: Mapping[str, Any]) -> list[str]:
    target = target_of(place, group)
    texts = {} if target is None else describe_arguments(target)
    rows = []
    for name, argument in arguments(place, group).items():
        text = texts.get(name) or describe_recipe_key(f"{place}.{name}")
        text = f"{text[:1].upper()}{text[1:]}".replace("|", "\\|")
        cells = f"`{name}`", _default(argument.default), text
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _default(value: Any) -> str:
    if value is REQUIRED:
        return "required"
    return f"`{value!r}`".replace("|", "\\|")


@functools.cache
def _listed_paths() -> set[str]:
    return {
        f"{target.__module__}.{target.__qualname__}"
        for listed in _TABLES.values()
        for _, target in entries(listed)
    }


def drop_arguments(
    app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]
) -> None:
    """Takes the sections out of a docstring that stand in the table below it."""
    if name not in _listed_paths():
        return
    kept, inside = [], False
    for line in lines:
        if line in _SECTIONS:
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        if not inside:
            kept.append(line)
    lines[:] = kept


def drop_signature(
    app: Any, what: str, name: str, target: Any, options: Any, *signature: Any
) -> tuple[str, str] | None:
    """Leaves out the signature of what a config names: its keys are in the table."""
    return ("", "") if name in _listed_paths() else None
