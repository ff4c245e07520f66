"""`clipin report`: writes an HTML page that compares runs."""

import argparse

from clipin_jax import storage
from clipin_jax.commands.parsing import Verbs, add_verb, output_file
from clipin_jax.errors import DONE

EPILOG = """
examples:
  clipin report runs/clip runs/clip_clipin --output comparison.html
  clipin report runs/clip --show 'loss|R@1'
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(verbs, "report", "compare runs in one HTML file", call, EPILOG)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument(
        "--output", type=output_file, help="default: report.html in the first run"
    )
    parser.add_argument(
        "--show", metavar="REGEX",
        help="metrics to show first; default: the loss and the headline scores",
    )  # fmt: skip


def call(args: argparse.Namespace) -> int:
    """Writes the HTML file."""
    from clipin_jax.report import write_report

    output = args.output or storage.join(args.runs[0], "report.html")
    path = write_report(args.runs, output, show=args.show)
    print(f"report: {storage.full_path(path)}")
    return DONE
