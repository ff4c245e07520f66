"""Keeps pictures of a run: what it trained on and what it retrieves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipin_jax.data.evaluation import eval_batches
from clipin_jax.errors import ClipinError
from clipin_jax.report.gallery import FOLDER, picture_file

PAIRS = 8
THUMBNAIL = 128  # pixels on the longer side of a retrieved picture


def save_pairs(workdir: Path, batch: Mapping[str, Any], tokenizer: Any) -> None:
    """Keeps the first pairs of a training batch, with all views, for the report.

    batch: host arrays, {"view1": {"image": [b, H, W, 3] uint8, "text": [b, L] int32},
    "view2": the same, when there is one}; tokenizer: the one that made the ids.
    Raises ClipinError when they can not be written.
    """
    views = sorted((k, view) for k, view in batch.items() if k.startswith("view"))
    pairs = []
    with _writing(workdir) as folder:
        for row in range(min(PAIRS, len(batch["view1"]["image"]))):
            pair = []
            for name, view in views:
                file = f"pair{row}_{name}.png"
                Image.fromarray(np.asarray(view["image"][row])).save(folder / file)
                caption = _caption(np.asarray(view["text"][row]), tokenizer)
                pair.append({"view": name, "file": file, "caption": caption})
            pairs.append(pair)
        _write(folder / "pairs.json", pairs)


def save_retrievals(workdir: Path, name: str, evaluator: Any) -> None:
    """Keeps an evaluator's best and worst retrievals with their pictures.

    name: of the evaluation in the config; evaluator: has run. One that has `examples`
    also has `source`, `image_size` and `interpolation`, as `evaluators.Retrieval`; any
    other has nothing to keep. Raises ClipinError when they can not be written.
    """
    examples = getattr(evaluator, "examples", None)
    if not examples:
        return
    entries = [entry for kind in examples.values() for entry in kind]
    shown = {index for entry in entries for index, _ in entry["retrieved"]}
    wanted = sorted(shown | {entry["image"] for entry in entries})
    batches = eval_batches(
        Subset(evaluator.source, wanted),
        image_size=evaluator.image_size,
        interpolation=evaluator.interpolation,
        batch_size=16,
    )
    with _writing(workdir) as folder:
        for batch in batches:
            for row in np.flatnonzero(batch["mask"]):
                picture = Image.fromarray(batch["image"][row])
                picture.thumbnail((THUMBNAIL, THUMBNAIL))
                picture.save(folder / picture_file(name, wanted[batch["index"][row]]))
        _write(folder / f"retrievals_{name}.json", examples)


class Subset:
    """Some records of a source, by their index there."""

    def __init__(self, source: Any, indices: list[int]) -> None:
        self._source, self._indices = source, indices
        self.classes = source.classes
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._source[self._indices[index]]

    def annotations(self, index: int) -> Any:
        """What is said about a picture."""
        return self._source.annotations(self._indices[index])

    def describe(self, index: int) -> str:
        """Where a record comes from."""
        return self._source.describe(self._indices[index])


def _caption(row: np.ndarray, tokenizer: Any) -> str:
    """The text of a row of ids, without its marks and its padding."""
    begin = int(row[0] == tokenizer.start)  # not every vocabulary has a start mark
    inside = row[begin : begin + int(np.argmax(row[begin:] == tokenizer.end))]
    return tokenizer.decode(inside).strip()


@contextlib.contextmanager
def _writing(workdir: Path) -> Iterator[Path]:
    """The folder to write to, made if need be; what goes wrong there is explained."""
    folder = Path(workdir) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise ClipinError(
            f"can not keep examples in {folder}: {error.strerror or error}"
        ) from error


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
