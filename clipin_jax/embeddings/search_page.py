"""The HTML page of a search: the query, and the nearest records as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax import storage
from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord, Source
from clipin_jax.embeddings.files import Embeddings
from clipin_jax.embeddings.rows import TEXT
from clipin_jax.embeddings.search import Hit, is_image_query
from clipin_jax.errors import ClipinError
from clipin_jax.report.components import cards, note
from clipin_jax.report.document import document
from clipin_jax.report.images import ImageRoom, pixels
from clipin_jax.report.markup import Markup, breakable, join, tag

SIDE = 320  # pixels of a picture
_IMAGES = 1_500_000  # bytes of all pictures together
_STYLE = """
.query img { width: auto; max-width: 100% }
"""


def search_page(query: str, hits: Sequence[Hit], embeddings: Embeddings) -> str:
    """Returns the page; without pictures, and with the reason, if the source is gone.

    Args:
      query: a text or an image file.
      hits: of `search`.
      embeddings: in which it searched.
    """
    source, problem = _open(embeddings)
    room = ImageRoom(_IMAGES)
    found = cards(_card(hit, source, room) for hit in hits)
    origin = embeddings.origin
    lead = f"{len(embeddings.facts):,} embeddings of {origin.source} by {origin.model}"
    return document(
        query,
        {
            "Query": _query(query),
            "Nearest": join([note(problem) if problem else None, found]),
        },
        lead=note(lead),
        style=_STYLE,
        kind="Search",
    )


def _open(embeddings: Embeddings) -> tuple[Source | None, str]:
    """Returns the source of the records; None and the reason if it is another now."""
    try:
        source = make_source(**embeddings.origin.source)
    except ClipinError as error:
        return None, f"No pictures: {error}"
    if source.fingerprint != embeddings.origin.source_fingerprint:
        return None, "No pictures: the data have changed since they were embedded."
    return source, ""


def _query(query: str) -> Markup | None:
    """Returns the image to which the nearest were searched; a text is the heading."""
    if not is_image_query(query):
        return None
    image = decode(storage.read(storage.full_path(query)))
    return tag("div", pixels(image, "the query", SIDE), class_="query")


def _card(hit: Hit, source: Source | None, room: ImageRoom) -> Markup:
    row = hit.row
    picture = None if source is None else _picture(source, row.index, room)
    caption = tag("p", row.caption) if row.caption else None
    kind = " (text)" if row.kind == TEXT else ""
    cosine = tag("p", f"cosine {hit.cosine:.3f}{kind}", class_="note")
    name = tag("p", breakable(row.id), class_="note")
    return tag("div", picture, caption, cosine, name, class_="card")


def _picture(source: Source, index: int, room: ImageRoom) -> Markup:
    try:
        image = decode(source[index]["image"])
        return room.take(pixels(image, f"record {index}", SIDE))
    except (BadRecord, OSError) as error:
        return tag("span", f"cannot be read: {error}", class_="gap")
