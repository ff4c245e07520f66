"""Whole sources and lists of texts to features, on all devices and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clipin_jax.data.evaluation import eval_batches, view_batches
from clipin_jax.data.source import Annotations, BadRecord
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.inference.batching import collect, compiled, shares
from clipin_jax.inference.generation import Decoding, read_caption

Features = dict[str, np.ndarray]
SIMILARITIES = ("contrastive", "prediction")


class Compared(NamedTuple):
    """One way to compare images with texts: by the cosine of what these two return.

    Attributes:
      images: `(state, source, batch_size)` to [len(source), E] float32 of unit norm.
      texts: `(state, texts, batch_size)` to [len(texts), E] float32 of unit norm.
    """

    images: Callable[[Any, Any, int], np.ndarray]
    texts: Callable[[Any, Sequence[str], int], np.ndarray]


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
        augment: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepares both towers.

        encode: has `image(variables, image)` and `text(variables, tokens)`, pure and
        jit-free, each to {"pooled": [B, D], "embedding": [B, E]};
        tokenizer: texts to [B, L] int32; image_size: (height, width) in pixels;
        augment: how training views are made, see `data.views`; None: they are not.
        """
        self._encode = encode
        self._mesh = mesh
        self._augment = augment
        self.tokenizer = self._tokenizer = tokenizer
        self.image_size = image_size
        self.interpolation = interpolation
        self._image = compiled(encode.image, ("image",), mesh)
        self._text = compiled(encode.text, ("text",), mesh)

    def images(self, variables: Any, source: Any, batch_size: int) -> Features:
        """All images of a source, in its order.

        batch_size: images a batch, over all processes; rounded up to what the devices
        can share.
        Returns {"pooled": [len(source), D], "embedding": [len(source), E]} float32,
        the same on every process.
        """
        batches = self._image_batches(source, batch_size)
        return self._collect(self._image, variables, batches, len(source))

    def views(
        self, variables: Any, source: Any, batch_size: int, *, seed: int, epoch: int
    ) -> Features:
        """As `images`, of one random view of each as in training."""
        order = np.arange(len(source))
        size = self._round(batch_size)
        batches = self.view_batches(source, size, order=order, seed=seed, epoch=epoch)
        return self._collect(self._image, variables, batches, len(source))

    def view_batches(
        self,
        source: Any,
        batch_size: int,
        *,
        order: np.ndarray,
        seed: int,
        epoch: int,
        augment: bool = True,
    ) -> Iterator[dict]:
        """Our share of the batches of training views, see `data.evaluation`.

        Without `augment` they are the views of evaluation.
        """
        return view_batches(
            source,
            order=order,
            seed=seed,
            epoch=epoch,
            augment=self._augment if augment else None,
            image_size=self.image_size,
            interpolation=self.interpolation,
            batch_size=batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    @property
    def augments(self) -> bool:
        """Whether views can be made as in training."""
        return self._augment is not None

    @property
    def mesh(self) -> Mesh:
        """The devices that share a batch."""
        return self._mesh

    @property
    def functions(self) -> Any:
        """The pure encode functions, to differentiate."""
        return self._encode

    def texts(self, variables: Any, texts: Sequence[str], batch_size: int) -> Features:
        """All texts, in their order: as `images`, [len(texts), ...] float32."""
        batch_size = self._round(batch_size)
        batches = self._text_batches(texts, batch_size)
        return self._collect(self._text, variables, batches, len(texts))

    def compared(self, similarity: str) -> Compared:
        """What compares images with texts.

        similarity: "contrastive", by the embeddings; or "prediction", the target
        network's projection of the image against its online prediction from the text
        (CLIPin, arXiv 2508.06434, `get_similarity(onlyclip=False)` of its code).
        Raises ClipinError for any other, and for a model that cannot predict.
        """
        check_choice("similarity", similarity, SIMILARITIES)
        if similarity == "contrastive":
            image, text, seen_by = self._image, self._text, "variables"
        else:
            prediction = self._encode.prediction(self._tokenizer(["a text"]))
            image = compiled(prediction.image, ("image",), self._mesh)
            text = compiled(prediction.text, ("text",), self._mesh)
            seen_by = "target_variables"

        def images(state: Any, source: Any, batch_size: int) -> np.ndarray:
            batches = self._image_batches(source, batch_size)
            found = self._collect(image, getattr(state, seen_by), batches, len(source))
            return found["embedding"]

        def texts(state: Any, texts: Sequence[str], batch_size: int) -> np.ndarray:
            batches = self._text_batches(texts, self._round(batch_size))
            found = self._collect(text, state.variables, batches, len(texts))
            return found["embedding"]

        return Compared(images, texts)

    def captioner(self, decoding: Decoding) -> Callable[[Any, Any, int], list[str]]:
        """What writes a caption for every image of a source, in its order.

        Returns `(variables, source, batch_size) -> [len(source)] captions`. Raises
        ClipinError for a model that cannot, before any of them is asked for.
        """
        tokenizer: Any = self._tokenizer
        generate = self._encode.captioner(tokenizer, decoding)
        encode = compiled(generate, ("image", "index"), self._mesh)

        def write(variables: Any, source: Any, batch_size: int) -> list[str]:
            batches = self._image_batches(source, batch_size)
            rows = self._collect(encode, variables, batches, len(source))["text"]
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
        encode = compiled(self._encode.image_tokens, ("image",), self._mesh)
        match = compiled(self._encode.match, ("tokens", "text"), self._mesh)

        def score(variables, source, texts, pairs, batch_size) -> np.ndarray:
            images = self._image_batches(source, batch_size)
            tokens = self._collect(encode, variables, images, len(source))["tokens"]
            rows = self._tokenizer(texts)
            batches = (
                {
                    "tokens": tokens[pairs[index, 0]],
                    "text": rows[pairs[index, 1]],
                    "index": index,
                    "mask": mask,
                }
                for index, mask in shares(len(pairs), self._round(batch_size))
            )
            return self._collect(match, variables, batches, len(pairs))["score"]

        return score

    def explainer(
        self, method: str, layer: int | None = None, words: bool = False
    ) -> Callable[..., dict[str, np.ndarray]]:
        """What shows where the model looks in pictures for a text each.

        method, layer, words: see `saliency.make_map_fn`. Returns `(state, source,
        texts, batch_size) -> {"caption": [len(source), rows, columns]}` float32, and
        with words "tokens" [len(source), L, rows, columns]; text i belongs to picture
        i. Raises ClipinError for no such method or layer, or a model without the parts.
        """
        image = np.zeros((1, *self.image_size, 3), np.uint8)
        text = self._tokenizer(["a text"])
        maps = self._encode.explainer(image, text, method, layer, words)

        def run(variables: Any, image: Any, text: Any) -> dict[str, Any]:
            found = maps(*variables, image, text)._asdict()
            return {k: v.astype(np.float32) for k, v in found.items() if v is not None}

        encode = compiled(run, ("image", "text"), self._mesh)

        def explain(state, source, texts, batch_size) -> dict[str, np.ndarray]:
            rows = self._tokenizer(texts)
            batches = (
                {**batch, "text": rows[batch["index"]]}
                for batch in self._image_batches(source, batch_size)
            )
            variables = state.variables, state.target_variables
            return self._collect(encode, variables, batches, len(source))

        return explain

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
        for index, mask in shares(len(texts), batch_size):
            tokens = self._tokenizer([texts[int(i)] for i in index])
            yield {"text": tokens, "index": index, "mask": mask}

    def _collect(
        self, encode: Callable, variables: Any, batches: Iterable[dict], count: int
    ) -> Features:
        return collect(encode, variables, batches, count, self._mesh)


def make_encoder(
    config: ConfigDict, encode: Any, mesh: Mesh, kind: type[Encoder] = Encoder
) -> Encoder:
    """What turns pictures and texts into what the model says of them, as configured."""
    data = config.data
    return kind(
        encode,
        mesh=mesh,
        tokenizer=caption_tokenizer(data),
        image_size=tuple(data.image_size),
        interpolation=data.augment.interpolation,
        augment=data.augment.to_dict(),
    )


def read_annotations(source: Any, index: int) -> Annotations:
    """What is said of a record. Raises ClipinError where it cannot be used."""
    try:
        return source.annotations(index)
    except (BadRecord, OSError) as error:
        raise ClipinError(
            f"record {index}, {source.describe(index)}, cannot be used: {error}."
            " Evaluation leaves no sample out: mend or remove the record"
        ) from error


def read_labels(source: Any, classes: int) -> np.ndarray:
    """The labels of a source: [B] int where every record has one, else [B, K] bool.

    A record's label is an int, or a sequence of any number of them.
    Raises ClipinError for a record that cannot be used, has no label, or one that is no
    class.
    """
    labels = [read_annotations(source, i).get("label") for i in range(len(source))]
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
