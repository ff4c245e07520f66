"""Whole sources and lists of texts to features, on all devices and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from clipin_jax import sharding
from clipin_jax.data.pipeline import eval_batches
from clipin_jax.errors import ClipinError
from clipin_jax.generate import Decoding, read_caption

Features = dict[str, np.ndarray]


class Encoder:
    """The encode functions, compiled once and shared by all evaluators of a run."""

    def __init__(
        self,
        encode: Any,
        *,
        mesh: Mesh,
        tokenizer: Callable[[Sequence[str]], np.ndarray],
        image_size: tuple[int, int],
        interpolation: str,
    ) -> None:
        """Prepares both towers.

        encode: has `image(variables, image)` and `text(variables, tokens)`, pure and
        jit-free, each to {"pooled": [B, D], "embedding": [B, E]};
        tokenizer: texts to [B, L] int32; image_size: (height, width) in pixels.
        """
        self._encode = encode
        self._mesh = mesh
        self._tokenizer = tokenizer
        self.image_size = image_size
        self.interpolation = interpolation
        self._image = _compile(encode.image, ("image",), mesh)
        self._text = _compile(encode.text, ("text",), mesh)

    def images(self, variables: Any, source: Any, batch_size: int) -> Features:
        """All images of a source, in its order.

        batch_size: images a batch, over all processes; rounded up to what the devices
        can share.
        Returns {"pooled": [len(source), D], "embedding": [len(source), E]} float32,
        the same on every process.
        """
        batches = self._image_batches(source, batch_size)
        return self._collect(self._image, variables, batches, len(source))

    def texts(self, variables: Any, texts: Sequence[str], batch_size: int) -> Features:
        """All texts, in their order: as `images`, [len(texts), ...] float32."""
        batch_size = self._round(batch_size)
        batches = self._text_batches(texts, batch_size)
        return self._collect(self._text, variables, batches, len(texts))

    def captioner(self, decoding: Decoding) -> Callable[[Any, Any, int], list[str]]:
        """What writes a caption for every image of a source, in its order.

        Returns `(variables, source, batch_size) -> [len(source)] captions`. Raises
        ClipinError for a model that cannot, before any of them is asked for.
        """
        tokenizer: Any = self._tokenizer
        generate = self._encode.captioner(tokenizer, decoding)
        compiled = _compile(generate, ("image", "index"), self._mesh)

        def write(variables: Any, source: Any, batch_size: int) -> list[str]:
            batches = self._image_batches(source, batch_size)
            rows = self._collect(compiled, variables, batches, len(source))["text"]
            return [read_caption(row, tokenizer, decoding.prompt) for row in rows]

        return write

    def matcher(self) -> Callable[..., np.ndarray]:
        """What scores pairs of images and texts one by one.

        Returns `(variables, source, texts, pairs, batch_size) -> [P]`, where pairs is
        [P, 2] int, an image's index in the source and a text's in the list. It holds
        the tokens of all images in memory. Raises ClipinError for a model that cannot.
        """
        if self._encode.match is None:
            raise ClipinError(
                "the model was not taught to match pairs: add objectives.matching, or "
                "set rerank to 0"
            )
        compiled = _compile(self._encode.image_tokens, ("image",), self._mesh)
        match = _compile(self._encode.match, ("tokens", "text"), self._mesh)

        def score(variables, source, texts, pairs, batch_size) -> np.ndarray:
            images = self._image_batches(source, batch_size)
            tokens = self._collect(compiled, variables, images, len(source))["tokens"]
            rows = self._tokenizer(texts)
            batches = (
                {
                    "tokens": tokens[pairs[index, 0]],
                    "text": rows[pairs[index, 1]],
                    "index": index,
                    "mask": mask,
                }
                for index, mask in self._shares(len(pairs), self._round(batch_size))
            )
            return self._collect(match, variables, batches, len(pairs))["score"]

        return score

    def _round(self, batch_size: int) -> int:
        # Nothing but the time depends on it, so there is no reason to refuse one.
        return -(-batch_size // self._mesh.size) * self._mesh.size

    def _image_batches(self, source: Any, batch_size: int) -> Iterator[dict]:
        return eval_batches(
            source,
            image_size=self.image_size,
            interpolation=self.interpolation,
            batch_size=self._round(batch_size),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _text_batches(self, texts: Sequence[str], batch_size: int) -> Iterator[dict]:
        for index, mask in self._shares(len(texts), batch_size):
            tokens = self._tokenizer([texts[int(i)] for i in index])
            yield {"text": tokens, "index": index, "mask": mask}

    def _shares(
        self, count: int, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The part of each batch of indices that is ours, and which are no padding."""
        share = batch_size // jax.process_count()
        offset = share * jax.process_index()
        for start in range(0, count, batch_size):
            index = np.arange(start + offset, start + offset + share)
            mask = index < count
            yield np.where(mask, index, 0), mask

    def _collect(
        self, encode: Callable, variables: Any, batches: Iterable[dict], count: int
    ) -> Features:
        """Runs the batches and puts every row where its index says."""
        features: Features = {}
        for done in _one_behind(self._run(encode, variables, batches)):
            rows = {name: np.asarray(value) for name, value in done.items()}
            mask, index = rows.pop("mask"), rows.pop("index")
            for name, value in rows.items():
                if name not in features:
                    features[name] = np.empty((count, *value.shape[1:]), value.dtype)
                features[name][index[mask]] = value[mask]
        return features

    def _run(self, encode: Callable, variables: Any, batches: Iterable[dict]):
        for batch in batches:
            batch = {**batch, "index": batch["index"].astype(np.int32)}
            yield encode(variables, sharding.put(batch, self._mesh))


def _compile(encode: Callable, keys: tuple[str, ...], mesh: Mesh) -> Callable:
    """`encode(variables, *keys of the batch)` under jit, gathered to every device.

    Index and mask travel with the features, so that the order in which a mesh lays
    out the processes does not matter.
    """

    def run(variables, batch):
        rows = {"index": batch["index"], "mask": batch["mask"]}
        return {**encode(variables, *(batch[key] for key in keys)), **rows}

    return jax.jit(run, out_shardings=sharding.replicated(mesh))


def _one_behind(items: Iterable[Any]) -> Iterator[Any]:
    """Holds one item back, so that the host reads a batch while another computes."""
    held = None
    for item in items:
        if held is not None:
            yield held
        held = item
    if held is not None:
        yield held


def read_labels(source: Any, classes: int) -> np.ndarray:
    """The labels of a source: [B] int where every record has one, else [B, K] bool.

    A record's label is an int, or a sequence of any number of them.
    Raises ClipinError for a record without a label, or with one that is no class.
    """
    labels = [source.annotations(i).get("label") for i in range(len(source))]
    members = np.zeros((len(labels), classes), bool)
    for index, label in enumerate(labels):
        if label is None:
            raise ClipinError(
                f"record {index}, {source.describe(index)}, has no label:"
                " classification needs one for every image"
            )
        for value in np.atleast_1d(np.asarray(label, np.int64)):
            if not 0 <= value < classes:
                raise ClipinError(
                    f"record {index}, {source.describe(index)}, has label {value}, but"
                    f" there are {classes} classes (0 to {classes - 1})"
                )
            members[index, value] = True
    return np.asarray(labels) if _is_single(labels) else members


def _is_single(labels: list[Any]) -> bool:
    return all(np.ndim(label) == 0 for label in labels)
