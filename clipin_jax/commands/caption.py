"""`clipin caption`: writes captions for image files."""

import argparse
import json
from pathlib import Path

from clipin_jax.commands.parsing import Verbs, add_step, add_verb
from clipin_jax.errors import DONE

EPILOG = "example: clipin caption runs/coca one.jpg two.png --strategy nucleus"


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(verbs, "caption", "write captions for images", call, EPILOG)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    add_step(parser)
    parser.add_argument(
        "--strategy", default="", help="greedy, beam or nucleus; default: the config's"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def call(args: argparse.Namespace) -> int:
    """Prints file and caption, one a line, or one JSON list."""
    import jax

    from clipin_jax.inference.caption import caption_images
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    captions = caption_images(args.run, args.images, args.step, args.strategy)
    pairs = list(zip(map(str, args.images), captions, strict=True))
    if jax.process_index():
        return DONE
    if args.json:
        records = [{"image": image, "caption": caption} for image, caption in pairs]
        print(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{image}: {caption}" for image, caption in pairs))
    return DONE
