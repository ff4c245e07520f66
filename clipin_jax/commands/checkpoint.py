"""`clipin checkpoint`: inspects, compares or averages checkpoints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clipin_jax.commands.parsing import Verbs, add_verb, numbers
from clipin_jax.errors import DONE, FAILED

if TYPE_CHECKING:
    from clipin_jax.runs.checkpoint_tools.comparison import Comparison
    from clipin_jax.runs.checkpoint_tools.saved_checkpoint import SavedCheckpoint

EPILOG = """
examples:
  clipin checkpoint inspect runs/mine
  clipin checkpoint inspect runs/mine@500 --pattern 'params/towers/image/.*kernel'
  clipin checkpoint diff runs/mine@500 runs/mine --pattern ^params/
  clipin checkpoint average runs/soup runs/a runs/b@500 --weights 2,1
  clipin checkpoint average runs/copy runs/mine   # its weights, without the optimizer

RUN@STEP is the checkpoint after STEP steps of the run in the folder or URL RUN. Without
@STEP, it is the newest undamaged one. No model is built, and no data is read.
"""
CHECKPOINT = "RUN or RUN@STEP"


def register(verbs: Verbs) -> None:
    """Adds the verb with its actions."""
    purpose = "inspect, compare or average checkpoints"
    checkpoint = add_verb(verbs, "checkpoint", purpose, epilog=EPILOG)
    actions = checkpoint.add_subparsers(dest="action", required=True, metavar="VERB")
    parser = add_verb(actions, "inspect", "list what a checkpoint holds", _inspect)
    parser.add_argument("checkpoint", help=CHECKPOINT)
    _add_pattern(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")

    parser = add_verb(
        actions, "diff", "list what differs between two checkpoints", _diff,
        epilog="Exit codes: 0 nothing differs, 1 something does.",
    )  # fmt: skip
    parser.add_argument("a", help=CHECKPOINT)
    parser.add_argument("b", help=CHECKPOINT)
    _add_pattern(parser)

    parser = add_verb(
        actions,
        "average",
        "write a run with the mean of checkpoints' weights",
        _average,
    )
    parser.add_argument("out", help="a new folder, by path or URL")
    parser.add_argument("sources", nargs="+", metavar="source", help=CHECKPOINT)
    parser.add_argument(
        "--weights", type=numbers, default=(),
        help="of the sources, as 2,1; default: equal ones",
    )  # fmt: skip


def _add_pattern(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pattern", default="", metavar="REGEX", help="of the names of arrays to list"
    )


def _inspect(args: argparse.Namespace) -> int:
    """Prints the parts and the arrays of a checkpoint."""
    from clipin_jax.runs.checkpoint_tools.average import read_sources
    from clipin_jax.runs.checkpoint_tools.saved_checkpoint import open_checkpoint
    from clipin_jax.runs.checkpoint_tools.summary import Part, count, count_parts

    checkpoint = open_checkpoint(args.checkpoint, with_arrays=False)
    sources = read_sources(checkpoint.copy.folder)
    if args.json:
        print(json.dumps(_record(checkpoint, sources, args.pattern), indent=2))
        return DONE
    print(f"{checkpoint.copy.name}: step {checkpoint.step}")
    print(f"checkpoints at steps {', '.join(map(str, checkpoint.steps))}")
    if sources:
        print(f"the mean of {', '.join(sources)}")
    sizes = {**count_parts(checkpoint.arrays), "total": count(checkpoint.arrays)}
    rows = [(name, *(f"{n:,}" for n in part)) for name, part in sizes.items()]
    print(f"\n{_table([('part', *Part._fields), *rows])}")
    rows = [
        (name, str(list(array.shape)), array.dtype, f"{array.num_bytes:,}")
        for name, array in checkpoint.only(args.pattern).arrays.items()
    ]
    print(f"\n{_table([('array', 'shape', 'dtype', 'bytes'), *rows])}")
    return DONE


def _record(
    checkpoint: SavedCheckpoint, sources: list[str], pattern: str
) -> dict[str, Any]:
    from clipin_jax.runs.checkpoint_tools.summary import count_parts

    parts = count_parts(checkpoint.arrays)
    return {
        "run": checkpoint.copy.name,
        "step": checkpoint.step,
        "steps": checkpoint.steps,
        "sources": sources,
        "parts": {name: part._asdict() for name, part in parts.items()},
        "arrays": {
            name: {**array._asdict(), "bytes": array.num_bytes}
            for name, array in checkpoint.only(pattern).arrays.items()
        },
    }


def _diff(args: argparse.Namespace) -> int:
    """Prints what differs between two checkpoints."""
    from clipin_jax.runs.checkpoint_tools.comparison import compare_checkpoints
    from clipin_jax.runs.checkpoint_tools.saved_checkpoint import open_checkpoint

    a, b = (open_checkpoint(name).only(args.pattern) for name in (args.a, args.b))
    comparison = compare_checkpoints(a, b)
    print("\n\n".join(_sections(a, b, comparison)))
    return DONE if comparison.is_equal else FAILED


def _sections(
    a: SavedCheckpoint, b: SavedCheckpoint, comparison: Comparison
) -> Iterable[str]:
    """Yields a text for each kind of difference that there is."""
    equal, labels = comparison.num_equal, (a.label, b.label)
    if comparison.is_equal:
        yield f"{a.label} and {b.label} are equal: {equal} arrays, and the configs"
        return
    if comparison.config:
        rows = [(key, repr(x), repr(y)) for key, (x, y) in comparison.config.items()]
        yield _table([("config", *labels), *rows])
    for names, has, lacks in ((comparison.only_a, a, b), (comparison.only_b, b, a)):
        if names:
            lines = _missing(names, lacks)
            yield "\n".join([f"only in {has.label}: {len(names)} arrays", *lines])
    if comparison.forms:
        rows = [(name, str(x), str(y)) for name, (x, y) in comparison.forms.items()]
        yield _table([("other form", *labels), *rows])
    distances = [(name, f"{x:.3g}") for name, x in comparison.distances.items()]
    yield f"values: {equal} arrays equal, {len(distances)} differ"
    if distances:
        yield _table([("array", "|a - b| / max(|a|, |b|)"), *distances])


def _missing(names: Iterable[str], lacks: SavedCheckpoint) -> list[str]:
    """Returns names that a checkpoint lacks; a part that it lacks is one line."""
    parts = {name.partition("/")[0] for name in lacks.arrays}
    lines = (x if (part := x.partition("/")[0]) in parts else f"{part}/" for x in names)
    return [f"  {line}" for line in dict.fromkeys(lines)]


def _average(args: argparse.Namespace) -> int:
    """Writes the run with the mean."""
    from clipin_jax.runs.checkpoint_tools.average import average_checkpoints

    step = average_checkpoints(args.out, args.sources, args.weights)
    print(f"clipin: written to {args.out}, at step {step}; clipin evaluate {args.out}")
    return DONE


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows in columns, the head first. Numbers stand at the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        width = max(map(len, cells))
        right = all(cell[:1].isdigit() or cell == "nan" for cell in cells[1:])
        columns.append([f"{c:>{width}}" if right else f"{c:<{width}}" for c in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
