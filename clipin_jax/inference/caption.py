"""Captions image files with the model of a run."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.inference.generation import Decoding, make_decoding
from clipin_jax.inference.image_files import find_image_files
from clipin_jax.inference.open_model import open_source

MAX_BATCH = 64  # images at a time


def caption_images(
    workdir: str | Path,
    images: str | Path | Sequence[str | Path],
    step: int | None = None,
    strategy: str = "",
) -> list[str]:
    """Writes a caption for each image file.

    Decoding follows the first evaluation of the run's config that has `decoding`. It is
    greedy if there is none.

    Args:
      workdir: the run's folder.
      images: image files, or one.
      step: the checkpoint's step; None for the newest undamaged one.
      strategy: one of `generation.STRATEGIES` in place of the config's.

    Returns:
      The captions, in the order of the files.

    Raises:
      ClipinError: no run, checkpoint or file, a model that cannot write captions, or a
        file that is no image.
    """
    source, run = find_image_files(images), open_source(workdir)
    decoding = default_decoding(run.config)
    if strategy:
        decoding = decoding._replace(strategy=strategy)
    write = run.encoder.captioner(decoding)
    state, _ = run.restore(step)
    return write(state, source, min(len(source), MAX_BATCH))


def default_decoding(config: ConfigDict) -> Decoding:
    """Returns the decoding of a config: that of its first evaluation that has one."""
    entries = [entry for entry in config.evals.values() if "decoding" in entry]
    options = entries[0].decoding.to_dict() if entries else {}
    return make_decoding(options, config.data.context_length)
