"""`clipin search`: finds the records that are nearest to a text or an image."""

import argparse
from pathlib import Path

from clipin_jax import storage
from clipin_jax.commands.parsing import Verbs, add_step, add_verb, output_file
from clipin_jax.errors import DONE

EPILOG = """
examples:
  clipin search runs/first photos.parquet "a red bicycle"
  clipin search runs/first photos.parquet bicycle.jpg --top 20 --page found.html

The embeddings are those of `clipin embed` by the same model.
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "search", "find the records nearest to a text or image", call, EPILOG
    )
    parser.add_argument("model", help="a run's folder, or FOLDER@STEP")
    parser.add_argument(
        "embeddings", type=Path, help="a file of `clipin embed`, .npy or .parquet"
    )
    parser.add_argument("query", help="a text, or an image file")
    parser.add_argument("--top", type=int, default=5, help="how many; default: 5")
    parser.add_argument(
        "--page", type=output_file, help="also write an HTML page with the pictures"
    )
    add_step(parser)


def call(args: argparse.Namespace) -> int:
    """Prints cosine, id and caption of the nearest, one a line."""
    from clipin_jax.embeddings.files import read_embeddings
    from clipin_jax.embeddings.rows import TEXT
    from clipin_jax.embeddings.search import search
    from clipin_jax.inference.model import load
    from clipin_jax.runs.compile_cache import use_compile_cache

    embeddings = read_embeddings(storage.local_path(args.embeddings))
    use_compile_cache()
    model = load(args.model, step=args.step)
    hits = search(model, embeddings, args.query, args.top)
    for cosine, row in hits:
        kind = " (text)" if row.kind == TEXT else ""
        print(f"{cosine:6.3f}  {row.id}{kind}  {row.caption}".rstrip())
    if args.page:
        from clipin_jax.embeddings.search_page import search_page

        page = search_page(args.query, hits, embeddings)
        path = storage.write_output(args.page, page)
        print(f"clipin: written to {storage.full_path(path)}")
    return DONE
