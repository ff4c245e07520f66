"""`clipin embed`: embeds the records of a data source to a file."""

import argparse
import sys
from pathlib import Path

from clipin_jax import storage
from clipin_jax.commands.parsing import (
    Verbs,
    add_parts,
    add_step,
    add_verb,
    output_file,
    read_how,
)
from clipin_jax.errors import DONE, ClipinError

EPILOG = """
examples:
  clipin embed runs/first /path/to/folder --output photos.parquet
  clipin embed runs/first pairs.csv --output pairs.npy --what both
  clipin embed runs/first@500 "{'name': 'webdataset', 'files': 'shards'}" \\
      --output shards.npy

The same command goes on after it was stopped. Beside FILE.npy, FILE.ids.parquet has
index, kind, id and caption of each vector.
"""
BATCH_SIZE = 256


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "embed", "write the embeddings of a data source", call, EPILOG
    )
    parser.add_argument("model", help="a run's folder, or FOLDER@STEP")
    parser.add_argument(
        "source", help="a folder or file of pairs, as data= takes; or a dict, as "
        "data.source= takes",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="FILE",
        help="ends with .npy or .parquet",
    )  # fmt: skip
    parser.add_argument(
        "--what", choices=("image", "text", "both"), default="image",
        help="default: image; text: every caption",
    )  # fmt: skip
    parser.add_argument("--split", default="", help="of the source, such as val")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, metavar="N",
        help=f"default: {BATCH_SIZE}",
    )  # fmt: skip
    add_step(parser)
    add_parts(parser)


def call(args: argparse.Namespace) -> int:
    """Writes the file."""
    from clipin_jax.embeddings.embed import embed_source
    from clipin_jax.embeddings.files import check_name
    from clipin_jax.embeddings.given_source import source_arguments
    from clipin_jax.inference.model import load
    from clipin_jax.runs.compile_cache import use_compile_cache

    output: Path = storage.local_path(args.output)
    check_name(output)
    source = source_arguments(args.source, args.split)
    how = read_how(args)
    use_compile_cache()
    import jax

    if jax.process_count() > 1:
        raise ClipinError("clipin embed runs in one process, on all of its devices")
    model = load(args.model, step=args.step, batch_size=args.batch_size)
    print(f"clipin: {model!r}", file=sys.stderr)
    count = embed_source(model, source, output, what=args.what, how=how)
    done = f"{count:,} embeddings computed" if count else "it was complete"
    if how.part:
        print(
            f"clipin: part {how.part} of {output} is done ({done}); when all parts "
            f"are: {how.command('--merge')}"
        )
    else:
        print(f"clipin: written to {output} ({done})")
    return DONE
