"""`clipin study`: runs a grid of configs and seeds, and writes what it shows."""

import argparse
from pathlib import Path

from clipin_jax.commands.parsing import Verbs, add_verb, listing
from clipin_jax.config import list_studies
from clipin_jax.errors import DONE

EPILOG = """
examples:
  clipin study looseness --jobs 2
  clipin study my_study.py:seeds=3 --workdir runs/studies/my_study
  clipin study results.json                       # writes its page, runs nothing

A study is a grid of configs and seeds; `clipin_jax/study/study_file.py` describes its
file. The same command resumes a study that was stopped. Exit codes: 0 done, 75 stopped
with everything saved, 1 when runs failed.

studies:
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "study", "run a grid of configs and seeds, and compare them", call,
        epilog=EPILOG + listing(list_studies()),
    )  # fmt: skip
    parser.add_argument("study", help="NAME[:OPTIONS], a .py file, or a results.json")
    parser.add_argument("--workdir", help="default: runs/studies/NAME")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; default: 1"
    )


def call(args: argparse.Namespace) -> int:
    """Runs the study, or writes the page of finished results."""
    from clipin_jax.study.runner import run_study, write_study_page

    if args.study.endswith(".json"):
        print(f"study: {write_study_page(Path(args.study))}")
        return DONE
    return run_study(args.study, args.workdir, args.jobs)
