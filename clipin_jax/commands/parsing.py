"""Arguments that several verbs share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipin_jax.errors import ClipinError
from clipin_jax.storage import full_path, is_remote

if TYPE_CHECKING:
    from clipin_jax.parts.run import How

# The verbs of a parser, as `add_subparsers` returns them.
Verbs = Any
PLACE = ("coordinator", "processes", "process")  # options of `add_processes`


def add_verb(
    verbs: Verbs,
    name: str,
    purpose: str,
    call: Callable[[argparse.Namespace], int] | None = None,
    epilog: str = "",
) -> argparse.ArgumentParser:
    """Adds a verb.

    Args:
      verbs: where to.
      name: of the verb.
      purpose: one line, for `--help`.
      call: called with the arguments; returns the exit code.
      epilog: examples, printed as they are.
    """
    parser = verbs.add_parser(
        name,
        help=purpose,
        description=purpose,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=call)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the name of a config, and its overrides."""
    parser.add_argument("config", help="NAME[:OPTIONS], a .py file, or a run's folder")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds the overrides of a config."""
    # With a default, argparse does not list them among the arguments that are missing.
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")


def add_processes(parser: argparse.ArgumentParser) -> Any:
    """Adds the place of this process among those of a run; returns the group."""
    group = parser.add_argument_group(
        "several processes",
        "detected on Slurm, Open MPI, Cloud TPU and GKE; see docs/guides/processes.md",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    group.add_argument("--processes", metavar="N", help="how many there are")
    group.add_argument("--process", metavar="I", help="which one this is, from 0")
    return group


def join_processes(args: argparse.Namespace) -> None:
    """Joins the other processes of the run, if there are any."""
    from clipin_jax.processes.joined import join

    join({f"--{name}": getattr(args, name) for name in PLACE})


def add_step(parser: argparse.ArgumentParser) -> None:
    """Adds the step of a checkpoint."""
    parser.add_argument("--step", type=int, help="default: the newest checkpoint")


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Adds the options of work that many machines share."""
    guide = "see docs/guides/many_machines.md"
    group = parser.add_argument_group("many machines", guide)
    choice = group.add_mutually_exclusive_group()
    choice.add_argument(
        "--part", default="", metavar="I/N", help="only part I of N, from 1; or auto, "
        "in a Slurm array or an indexed Job",
    )  # fmt: skip
    choice.add_argument(
        "--merge", action="store_true", help="verify and join the finished parts"
    )
    choice.add_argument(
        "--on", default="", metavar="dask[:PLACE]", help="processes of this machine, "
        "or a scheduler's address, slurm or kubernetes",
    )  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N", help="of --on")


def read_how(args: argparse.Namespace) -> "How":
    """Returns how the work is run. Raises ClipinError for wrong options."""
    from clipin_jax.parts.part import read_part
    from clipin_jax.parts.run import How, check_place

    if args.workers is not None and args.workers < 1:
        raise ClipinError(f"--workers is {args.workers}: it must be at least 1")
    if args.on:
        check_place(args.on)
    elif args.workers:
        raise ClipinError("--workers is for --on dask")
    part = read_part(args.part) if args.part else None
    return How(
        part=part, merge=args.merge, on=args.on, workers=args.workers,
        argv=tuple(args.argv),
    )  # fmt: skip


def listing(purposes: dict[str, str]) -> str:
    """Returns names with their purposes, one a line."""
    return "\n".join(f"  {name:<14}{purpose}" for name, purpose in purposes.items())


def output_file(name: str) -> Path:
    """A path or URL, checked before the content is computed."""
    if is_remote(name := full_path(name)):
        return Path(name)
    if Path(name).is_dir() or not Path(name).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{name} is not a file in an existing folder")
    return Path(name)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, as "0,1,2"."""
    return tuple(int(part) for part in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between, as "0.25,0.75"."""
    return tuple(float(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names with commas between, as "cifar10,retrieval"."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))
