"""Where the models of runs look in pictures, for given texts: arrays, or one PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from clipin_jax.errors import ClipinError
from clipin_jax.inference.caption import Files
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.inference.encoder import make_encoder
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.checkpoint import restore_state
from clipin_jax.runs.folder import load_folder

BATCH = 16  # pairs at a time, at most


class Explanation(NamedTuple):
    """Where a model looks in one picture for one text.

    Attributes:
      image: [H, W, 3] uint8, the picture as it is.
      text: as given.
      caption: [rows, columns] float32 over the patches, not below 0, of any scale;
        patches cover all of the picture, which the model sees squashed to its size.
      words: (word, the same for it) from left to right; empty where not asked.
    """

    image: np.ndarray
    text: str
    caption: np.ndarray
    words: list[tuple[str, np.ndarray]]


def explain_image(
    workdir: str | Path,
    images: str | Path | Sequence[str | Path],
    texts: str | Sequence[str],
    *,
    method: str = "contrastive",
    layer: int | None = None,
    words: bool = False,
    step: int | None = None,
) -> list[Explanation]:
    """Explains every text in every picture by the model of a run.

    Args:
      workdir: the run's folder.
      images: picture files, or one.
      texts: texts, or one.
      method: `contrastive`, Grad-CAM of the cosine of the embeddings; `prediction`, of
        the cosine of CLIPin's target and prediction; `matching`, of the logit of a
        match; `captioning`, attention while each word is said; `pooling`, attention of
        what sums up the image.
      layer: which of those that the method can look at; its own choice if None.
      words: whether each word gets a map as well.
      step: which checkpoint; the newest good one if None.

    Returns:
      One for each picture and text, the texts of the first picture first.

    Raises:
      ClipinError: no run, checkpoint, method or layer, a model without the parts, no
        such file or one that is no picture, an empty text.
    """
    images = [images] if isinstance(images, str | Path) else list(images)
    texts = [texts] if isinstance(texts, str) else list(texts)
    pairs = [(image, text) for image in images for text in texts]
    if not all(text.strip() for text in texts) or not pairs:
        raise ClipinError("there is no text, or an empty one: say what to look for")
    files = Files([image for image, _ in pairs])
    pictures = {path: files[n]["image"] for n, (path, _) in enumerate(pairs)}
    config = load_folder(Path(workdir))
    run = build_experiment(config)
    encoder = make_encoder(config, make_encode_fns(run.learner), run.mesh)
    explain = encoder.explainer(method, layer, words)
    state, _ = restore_state(Path(workdir), step, run.abstract_state)
    said = [text for _, text in pairs]
    with jax.set_mesh(run.mesh):
        maps = explain(state, files, said, min(len(pairs), BATCH))
    tokens = maps.get("tokens", [()] * len(pairs))
    return [
        Explanation(
            pictures[path], text, caption, word_maps(text, own, encoder.tokenizer)
        )
        for (path, text), caption, own in zip(
            pairs, maps["caption"], tokens, strict=True
        )
    ]


def word_maps(
    text: str, maps: Sequence[np.ndarray], tokenizer: Any
) -> list[tuple[str, np.ndarray]]:
    """The maps of ids as maps of words: the mean over the ids of each.

    text: a caption; maps: [L, rows, columns], one for each id of its row, or none.
    Words stand between blanks. Where they are not read one by one (scripts without
    blanks, texts that are cleaned first), ids stand for themselves. Words that are cut
    off are left out.
    """
    if not len(maps):
        return []
    row = [int(x) for x in tokenizer([text])[0]]
    ids = row[1 : row.index(tokenizer.end, 1)]
    parts = [(word, tokenizer.encode(word.lower())) for word in text.split()]
    joined = [x for _, part in parts for x in part]
    if joined[: len(ids)] != ids:
        parts = [(tokenizer.decode([x]).strip(), [x]) for x in ids]
    found, place = [], 1  # behind the start mark
    for word, part in parts:
        own = maps[place : min(place + len(part), 1 + len(ids))]
        if len(own):
            found.append((word, np.mean(own, axis=0)))
        place += len(part)
    return found
