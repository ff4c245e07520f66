"""`clipin evaluate`: scores a run by its config, or by a suite."""

import argparse
from typing import Any

from clipin_jax.commands.parsing import (
    Verbs,
    add_processes,
    add_step,
    add_verb,
    join_processes,
    names,
    numbers,
    output_file,
)
from clipin_jax.errors import DONE, ClipinError

EPILOG = """
examples:
  clipin evaluate runs/first                      # the evals of its config
  clipin evaluate runs/first --step 500 --json scores.json
  clipin evaluate runs/first evals.retrieval.source.folder=/new/place
  clipin evaluate runs/first --suite core --data /path/to/data
  clipin evaluate runs/first --suite full --data /path/to/data --only cifar10,retrieval
  clipin evaluate runs/tuned --interpolate 0,0.5,1 --with runs/first@500

A suite is core (minutes), paper (CLIPin's protocols), full (hours), or a .py file. It
takes the data sets that the folder has, and prints what it leaves out.

--interpolate scores ALPHA * weights + (1 - ALPHA) * those of --with, as in WiSE-FT.
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(verbs, "evaluate", "score a run", call, EPILOG)
    parser.add_argument("run", help="a run's folder, by path or URL")
    parser.add_argument(
        "overrides", nargs="*", default=[], type=override, metavar="KEY=VALUE",
        help="of evals, as where data has moved to",
    )  # fmt: skip
    add_step(parser)
    parser.add_argument(
        "--output", "--json", type=output_file,
        help="default: eval/STEP.json, eval/STEP-SUITE.json or "
        "eval/STEP-interpolated.json in the run",
    )  # fmt: skip
    parser.add_argument("--suite", help="core, paper, full, or a .py file")
    parser.add_argument("--data", default="", help="a suite's folder of data sets")
    parser.add_argument(
        "--only", type=names, default=(), help="data sets and protocols of a suite"
    )
    parser.add_argument(
        "--interpolate", type=numbers, default=(), metavar="ALPHA,...",
        help="from 0 to 1; a row of scores for each",
    )  # fmt: skip
    parser.add_argument(
        "--with", dest="other", default="", metavar="RUN[@STEP]",
        help="the other weights; default: step 0 of the run",
    )  # fmt: skip
    add_processes(parser)


def override(text: str) -> str:
    """KEY=VALUE, checked so that a wrong word ends with the usage."""
    if not text.startswith(("evals", "data.source")) or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE of evals")
    return text


def call(args: argparse.Namespace) -> int:
    """Evaluates by the suite if one is given, else by the run's config."""
    from clipin_jax.runs.compile_cache import use_compile_cache

    _check_combination(args)
    join_processes(args)
    chosen: dict[str, Any] = dict(step=args.step, output=args.output)
    if args.overrides:
        chosen["overrides"] = args.overrides
    use_compile_cache()
    if args.suite:
        from clipin_jax.training.evaluation_suites import evaluate_suite

        evaluate_suite(args.run, args.suite, data=args.data, only=args.only, **chosen)
    elif args.interpolate:
        from clipin_jax.training.interpolation import evaluate_interpolated

        evaluate_interpolated(args.run, args.interpolate, other=args.other, **chosen)
    else:
        from clipin_jax.training.evaluate import evaluate

        evaluate(args.run, **chosen)
    return DONE


def _check_combination(args: argparse.Namespace) -> None:
    if args.suite and args.overrides:
        raise ClipinError("a suite takes no KEY=VALUE: write a suite as a .py file")
    if args.suite and args.interpolate:
        raise ClipinError("--interpolate takes the evals of the config: leave --suite")
    if not args.suite and (args.data or args.only):
        raise ClipinError("--data and --only belong to a suite: add --suite core")
    if args.other and not args.interpolate:
        raise ClipinError("--with belongs to --interpolate: add --interpolate 0.5")
