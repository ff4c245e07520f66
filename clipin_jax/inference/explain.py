"""Explains where the model of a run looks in image files for texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipin_jax.data.image.decode import decode
from clipin_jax.data.source import BadRecord
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.inference.image_files import find_image_files
from clipin_jax.inference.open_model import open_source

MAX_BATCH = 16  # pairs at a time


class Explanation(NamedTuple):
    """A map of one image for one text.

    Attributes:
      image: [H, W, 3] uint8, the whole image.
      text: the given text.
      caption: [rows, columns] float32 over the patches, not below 0, of any scale. The
        patches cover the whole image, which is resized for the model.
      words: (word, map of the same shape) from left to right; empty if not requested.
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
    """Explains every text in every image by the model of a run.

    Args:
      workdir: the run's folder.
      images: image files, or one.
      texts: texts, or one.
      method: `contrastive`, Grad-CAM of the cosine of the embeddings; `prediction`,
        Grad-CAM of the cosine of CLIPin's target and prediction; `matching`, Grad-CAM
        of the matching logit; `captioning`, attention while each word is decoded;
        `pooling`, attention of the layer that pools the image.
      layer: index among the layers that the method can use; None for its default.
      words: whether to add a map for each word.
      step: the checkpoint's step; None for the newest undamaged one.

    Returns:
      One explanation for each image and text, those of the first image first.

    Raises:
      ClipinError: no run, checkpoint, file, method or layer, a model without the parts
        for the method, a file that is no image, or an empty text.
    """
    images = [images] if isinstance(images, str | Path) else list(images)
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not images or not texts or not all(text.strip() for text in texts):
        raise ClipinError("there is no text, or an empty one: give a text to look for")
    pixels = _read_pixels(images)
    pairs = [(number, text) for number in range(len(images)) for text in texts]
    run = open_source(workdir)
    explain = run.encoder.explainer(method, layer, words)
    state, _ = run.restore(step)
    source = find_image_files([images[number] for number, _ in pairs])
    maps = explain(
        state, source, [text for _, text in pairs], min(len(pairs), MAX_BATCH)
    )
    token_maps = maps.get("tokens", [()] * len(pairs))
    return [
        Explanation(
            image=pixels[number],
            text=text,
            caption=caption_map,
            words=word_maps(text, id_maps, run.encoder.tokenizer),
        )
        for (number, text), caption_map, id_maps in zip(
            pairs, maps["caption"], token_maps, strict=True
        )
    ]


def _read_pixels(images: Sequence[str | Path]) -> list[np.ndarray]:
    source = find_image_files(images)
    pixels = []
    for index in range(len(source)):
        try:
            pixels.append(decode(source[index]["image"]))
        except (BadRecord, OSError) as error:
            raise ClipinError(
                f"{source.describe(index)} is no image: {error}"
            ) from error
    return pixels


def word_maps(
    text: str, maps: Sequence[np.ndarray], tokenizer: Tokenizer
) -> list[tuple[str, np.ndarray]]:
    """Turns maps of token ids into maps of words, the mean over the ids of a word.

    Blanks separate words. If the tokenizer does not encode them one by one (scripts
    without blanks, texts that are cleaned first), each id is a word. Words beyond the
    context length are left out.

    Args:
      text: a caption.
      maps: [L, rows, columns], one for each id of its row; or none.
      tokenizer: the tokenizer of the model.
    """
    if not len(maps):
        return []
    row = [int(x) for x in tokenizer([text])[0]]
    ids = row[1 : row.index(tokenizer.end, 1)]
    words = [(word, tokenizer.encode(word.lower())) for word in text.split()]
    joined = [x for _, word_ids in words for x in word_ids]
    if joined[: len(ids)] != ids:
        words = [(tokenizer.decode([x]).strip(), [x]) for x in ids]
    result, start = [], 1  # after the start mark
    for word, word_ids in words:
        end = start + len(word_ids)
        of_word = maps[start : min(end, 1 + len(ids))]
        if len(of_word):
            result.append((word, np.mean(of_word, axis=0)))
        start = end
    return result
