"""`clipin explain`: draws where models look in images for texts."""

import argparse
from pathlib import Path

from clipin_jax import storage
from clipin_jax.commands.parsing import Verbs, add_step, add_verb, output_file
from clipin_jax.errors import DONE

EPILOG = """
examples:
  clipin explain runs/clip runs/clip_clipin --image a.png b.png --text "a red star"
  clipin explain runs/albef --image a.png --text "a red star" --words --method matching
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "explain", "draw where models look in images for texts", call, EPILOG
    )
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument(
        "--image", type=Path, nargs="+", required=True, help="image files"
    )
    parser.add_argument("--text", nargs="+", required=True, help="what to look for")
    parser.add_argument(
        "--method", default="contrastive",
        help="contrastive (default), prediction, matching, captioning or pooling",
    )  # fmt: skip
    parser.add_argument("--layer", type=int, help="default: that of the method")
    parser.add_argument("--words", action="store_true", help="also word by word")
    add_step(parser)
    parser.add_argument(
        "--output", type=output_file, default=Path("explanation.png"),
        help="a .png or .html file; default: explanation.png",
    )  # fmt: skip


def call(args: argparse.Namespace) -> int:
    """Writes the file."""
    from clipin_jax.report.explanation_sheet import write_explanations
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    path = write_explanations(
        args.runs, args.image, args.text, args.output, method=args.method,
        layer=args.layer, words=args.words, step=args.step,
    )  # fmt: skip
    print(f"clipin: written to {storage.full_path(path)}")
    return DONE
