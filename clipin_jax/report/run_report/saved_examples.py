"""Writes examples of a run with their images: pairs, retrievals, written captions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from clipin_jax.data.evaluation_batches import eval_batches
from clipin_jax.data.source import Annotations, Record, Source
from clipin_jax.data.text.tokenizer import Tokenizer, decode_row
from clipin_jax.errors import ClipinError

FOLDER = "examples"  # inside the run folder
PAIRS = 8
_THUMBNAIL = 128  # pixels on the longer side of an image of an evaluation
_BATCH = 16


@runtime_checkable
class RetrievalExamples(Protocol):
    """An evaluator that keeps retrievals to be shown, such as `Retrieval`.

    Attributes:
      examples: "best", "worst" -> entries of `caption`, `image` (its index), `rank`,
        `score` and `retrieved` ((index, score), best first). {} before it has run.
      source: where the images are.
      image_size, interpolation, resize: of its views.
    """

    examples: Mapping[str, Sequence[Mapping[str, Any]]]
    source: Source
    image_size: tuple[int, int]
    interpolation: str
    resize: str


@runtime_checkable
class CaptionExamples(Protocol):
    """An evaluator that keeps captions that a model wrote, such as `Captioning`.

    Attributes:
      written: `decoding` (its options by name) and `captions`, entries of `image` (its
        index), `caption` and `references`. {} before it has run.
      source: where the images are.
      image_size, interpolation, resize: of its views.
    """

    written: Mapping[str, Any]
    source: Source
    image_size: tuple[int, int]
    interpolation: str
    resize: str


def save_pairs(workdir: Path, batch: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Writes the first pairs of a training batch, with all views, for the report.

    Args:
      workdir: of the run.
      batch: host arrays, {"view1": {"image": [b, H, W, 3] uint8, "text": [b, L]
        int32}, "view2": the same if there is one}.
      tokenizer: the one that made the ids.

    Raises:
      ClipinError: they cannot be written.
    """
    views = sorted((k, view) for k, view in batch.items() if k.startswith("view"))
    pairs = []
    with _example_folder(workdir) as folder:
        for row in range(min(PAIRS, len(batch["view1"]["image"]))):
            pair = []
            for name, view in views:
                file = f"pair{row}_{name}.png"
                Image.fromarray(np.asarray(view["image"][row])).save(folder / file)
                caption = decode_row(np.asarray(view["text"][row]), tokenizer)
                pair.append({"view": name, "file": file, "caption": caption})
            pairs.append(pair)
        _write_json(folder / "pairs.json", pairs)


def save_examples(workdir: Path, name: str, evaluator: object) -> None:
    """Writes what an evaluator keeps to be shown, with its images.

    Args:
      workdir: of the run.
      name: of the evaluation in the config.
      evaluator: has run. Nothing is written unless it is a `RetrievalExamples` or a
        `CaptionExamples`.

    Raises:
      ClipinError: they cannot be written.
    """
    if isinstance(evaluator, RetrievalExamples) and evaluator.examples:
        entries = [entry for kind in evaluator.examples.values() for entry in kind]
        retrieved = {index for entry in entries for index, _ in entry["retrieved"]}
        indices = retrieved | {entry["image"] for entry in entries}
        with _example_folder(workdir) as folder:
            _save_images(folder, f"retrieval_{name}", evaluator, indices)
            _write_json(folder / f"retrievals_{name}.json", evaluator.examples)
    if isinstance(evaluator, CaptionExamples) and evaluator.written:
        indices = {entry["image"] for entry in evaluator.written["captions"]}
        with _example_folder(workdir) as folder:
            _save_images(folder, f"caption_{name}", evaluator, indices)
            _write_json(folder / f"captions_{name}.json", evaluator.written)


def _save_images(
    folder: Path,
    prefix: str,
    evaluator: RetrievalExamples | CaptionExamples,
    chosen: Iterable[int],
) -> None:
    """Writes some images of an evaluator's source, as the model gets them."""
    indices = sorted(chosen)
    batches = eval_batches(
        _Selection(evaluator.source, indices),
        image_size=evaluator.image_size,
        interpolation=evaluator.interpolation,
        resize=evaluator.resize,
        batch_size=_BATCH,
    )
    for batch in batches:
        for row in np.flatnonzero(batch["mask"]):
            image = Image.fromarray(batch["image"][row])
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            index = indices[batch["index"][row]]
            image.save(folder / f"{prefix}_{index}.png")


class _Selection:
    """Some records of a source, by their index there."""

    def __init__(self, source: Source, indices: list[int]) -> None:
        self._source, self._indices = source, indices
        self.classes = source.classes
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._indices[index]]

    def annotations(self, index: int) -> Annotations:
        """Returns a record without its image."""
        return self._source.annotations(self._indices[index])

    def describe(self, index: int) -> str:
        """Returns where a record comes from."""
        return self._source.describe(self._indices[index])


@contextlib.contextmanager
def _example_folder(workdir: Path) -> Iterator[Path]:
    """Yields the folder of the examples; turns errors inside into a ClipinError."""
    folder = Path(workdir) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise ClipinError(
            f"cannot write examples to {folder}: {error.strerror or error}"
        ) from error


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
