"""Finds the files that the argument `files` of a source names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clipin_jax import storage
from clipin_jax.data.compressed import UNPACKED
from clipin_jax.data.formats.folders import list_folder
from clipin_jax.errors import ClipinError, first_few

_JOIN = "::"  # between several patterns in one text, as WebDataset has it


def find_files(
    patterns: str | Sequence[str], where: str, endings: Sequence[str]
) -> list[str]:
    """Returns the files of one pattern or several, each once, in their order.

    A pattern is one of `storage.expand`; a folder, for the files in it with one of the
    endings, sorted; or several patterns with "::" between them.

    Args:
      patterns: one, or a sequence of them.
      where: the config key of the patterns, for messages.
      endings: of the source's files, in lower case with the dot.

    Raises:
      ClipinError: no pattern, a pattern without a file, or a folder without one.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    if not listed or not all(isinstance(item, str) and item for item in listed):
        raise ClipinError(f"{where} is {patterns!r}; it must name files")
    paths: dict[str, None] = {}
    for pattern in (part for item in listed for part in _split(item)):
        names = _list_folder(pattern, where, endings)
        paths |= dict.fromkeys(storage.expand(pattern) if names is None else names)
    return [path for path in paths if not path.endswith(UNPACKED)]


def _split(text: str) -> Iterator[str]:
    """Yields the patterns of a text; "::" in a name or in a chained URL is kept."""
    parts = text.split(_JOIN)
    is_chain = any(part.isalnum() for part in parts)  # such as "simplecache::s3://b/n"
    is_name = not storage.is_remote(text) and storage.exists(text)
    if len(parts) == 1 or is_chain or is_name:
        yield text
    else:
        yield from filter(None, parts)


def _list_folder(path: str, where: str, endings: Sequence[str]) -> list[str] | None:
    """Returns the files of a folder with an ending; None if the path is no folder."""
    name = path.rpartition("/")[2]
    # A request less for what is a file by its name.
    is_file = "." in name.strip(".") or storage.is_pattern(path)
    if storage.is_remote(path) and is_file:
        return None
    folder = storage.join(path, "").rstrip("/") or "/"
    listing = None if storage.exists(path) else list_folder(folder)
    if listing is None:
        return None
    chosen = [n for n in listing.files if n.lower().endswith(tuple(endings))]
    if not chosen:
        seen = first_few([*listing.files, *(f"{n}/" for n in listing.folders)])
        raise ClipinError(
            f"{where} is the folder {path}, in which no name ends in "
            f"{' or '.join(endings)}; it has {seen or 'nothing'}"
        )
    return [storage.join(folder, name) for name in chosen]
