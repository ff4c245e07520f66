"""Captions of picture files by the model of a run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.inference.encoder import make_encoder
from clipin_jax.inference.generation import Decoding, make_decoding
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import restore_state
from clipin_jax.runs.folder import load_folder

BATCH = 64  # pictures at a time, at most


class Files:
    """Picture files as a source, without anything said about them."""

    classes = ()
    fingerprint = ""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = [Path(path) for path in paths]
        for path in self._paths:
            if not path.is_file():
                raise ClipinError(f"{path} is no picture: there is no such file")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            image = decode(self._paths[index].read_bytes())
        except (BadRecord, OSError) as error:
            raise ClipinError(f"{self._paths[index]} is no picture: {error}") from error
        return self.annotations(index) | {"image": image}

    def annotations(self, index: int) -> dict[str, Any]:
        """Nothing is known."""
        return {"captions": ()}

    def describe(self, index: int) -> str:
        """The file's name."""
        return str(self._paths[index])


def caption_images(
    workdir: str | Path,
    images: Sequence[str | Path],
    step: int | None = None,
    strategy: str = "",
) -> list[str]:
    """Writes a caption for each picture file.

    Ids are chosen as the config's first captioning evaluation says, greedily where it
    has none.

    Args:
      workdir: the run's folder.
      images: picture files.
      step: which checkpoint; the newest good one if None.
      strategy: one of `generate.STRATEGIES` instead of the config's.

    Returns:
      The captions, in the order of the files.

    Raises:
      ClipinError: no run or checkpoint, a model that cannot write, no such file, or one
        that is no picture.
    """
    source, config = Files(images), load_folder(Path(workdir))
    decoding = _decoding(config)
    if strategy:
        decoding = decoding._replace(strategy=strategy)
    run = build_experiment(config)
    encoder = make_encoder(config, make_encode_fns(run.learner), run.mesh)
    write = encoder.captioner(decoding)
    state, _ = restore_state(Path(workdir), step, run.abstract_state)
    with jax.set_mesh(run.mesh):
        return write(state.variables, source, min(len(source), BATCH))


def print_captions(
    workdir: str | Path,
    images: Sequence[str | Path],
    step: int | None = None,
    strategy: str = "",
    as_json: bool = False,
) -> None:
    """Prints file and caption, one a line, or one JSON list; see `caption_images`."""
    captions = caption_images(workdir, images, step, strategy)
    pairs = list(zip(map(str, images), captions, strict=True))
    if jax.process_index():
        return
    if as_json:
        records = [{"image": image, "caption": caption} for image, caption in pairs]
        print(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{image}: {caption}" for image, caption in pairs))


def _decoding(config: ConfigDict) -> Decoding:
    for entry in config.evals.values():
        if entry.type == "captioning" and "decoding" in entry:
            return make_decoding(entry.decoding.to_dict())
    default = Decoding()
    length = min(default.max_length, config.data.context_length)
    return default._replace(max_length=length)
