"""A source of photographs that a JSON file lists, with a caption and a species each."""

import json
from pathlib import Path

from clipin_jax.data.source import Annotations, Record, fingerprint


class Sightings:
    """Reads `SPLIT.json` of a folder: [{"file", "caption", "species"}, ...]."""

    def __init__(self, folder: str, split: str = "train"):
        content = (Path(folder) / f"{split}.json").read_bytes()
        self._folder, self._rows = Path(folder), json.loads(content)
        self.classes = tuple(sorted({row["species"] for row in self._rows}))
        self.fingerprint = fingerprint(content)

    def __len__(self) -> int:
        return len(self._rows)

    def annotations(self, index: int) -> Annotations:
        row = self._rows[index]
        label = self.classes.index(row["species"])
        return {"captions": (row["caption"],), "label": label}

    def __getitem__(self, index: int) -> Record:
        image = Path(self.describe(index)).read_bytes()
        return {"image": image, **self.annotations(index)}

    def describe(self, index: int) -> str:
        return str(self._folder / self._rows[index]["file"])
