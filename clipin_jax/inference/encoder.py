"""Runs whole sources and lists of texts through a model, on all devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from clipin_jax.data.evaluation_batches import eval_batches, view_batches
from clipin_jax.data.source import Source
from clipin_jax.data.text.tokenizer import Tokenizer
from clipin_jax.errors import ClipinError, check_choice
from clipin_jax.inference.batch_runs import (
    collect_rows,
    compile_rows,
    run_batches,
)
from clipin_jax.inference.encode_fns import EncodeFns, ModelState
from clipin_jax.inference.feature_cache import FeatureCache, Features
from clipin_jax.inference.generation import Decoding, read_caption

SIMILARITIES = ("contrastive", "prediction")


class Comparison(NamedTuple):
    """Vectors of images and texts, which are compared by their cosine.

    Attributes:
      images: `(state, source, batch_size)` to [len(source), E] float32 of unit norm.
      texts: `(state, texts, batch_size)` to [len(texts), E] float32 of unit norm.
    """

    images: Callable[[Any, Source, int], np.ndarray]
    texts: Callable[[Any, Sequence[str], int], np.ndarray]


class Encoder:
    """Encodes, compares, matches, captions and explains whole sources.

    Every result has a row for each sample, in the order of the source, and is the same
    on every process. `batch_size` counts samples over all processes; it is rounded up
    to a multiple of the devices, and changes the time and the memory only.

    `comparison`, `captioner`, `matcher` and `explainer` return functions. They raise
    errors of unsupported models at once, before a state is restored.
    """

    def __init__(
        self,
        functions: EncodeFns,
        *,
        mesh: Mesh,
        tokenizer: Tokenizer,
        image_size: tuple[int, int],
        interpolation: str,
        resize: str = "shortest",
        augment: Mapping[str, Any] | None = None,
        cache: FeatureCache | None = None,
    ) -> None:
        """Prepares the functions of a model.

        Args:
          functions: pure functions of the model, see `EncodeFns`.
          mesh: devices that share a batch.
          tokenizer: turns texts into [B, L] int32.
          image_size: (height, width) in pixels.
          interpolation, resize: of images, see `data.image.views.evaluation_view`.
          augment: options of `views`, see `data.image.views`; None for no views.
          cache: keeps features of images; None to encode them each time.
        """
        self.functions = functions
        self.mesh = mesh
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.interpolation, self.resize = interpolation, resize
        self.augment = augment
        self._cache = cache

    def images(self, state: ModelState, source: Source, batch_size: int) -> Features:
        """Encodes all images of a source.

        Returns {"pooled": [len(source), D], "embedding": [len(source), E]} float32.
        """
        function = self.functions.image
        return self._cached(function, state.variables, source, batch_size)

    def stream_images(
        self, state: ModelState, source: Source, batch_size: int
    ) -> Iterator[np.ndarray]:
        """Yields embeddings [b, E] of the images of a source, in order, by batches.

        For a source that does not fit into memory; on one process.
        """
        program = compile_rows(self.functions.image, ("image",), self.mesh)
        batches = self._image_batches(source, batch_size)
        for _, rows in run_batches(program, state.variables, batches, self.mesh):
            yield rows["embedding"]

    def texts(
        self, state: ModelState, texts: Sequence[str], batch_size: int
    ) -> Features:
        """Encodes all texts.

        Returns {"pooled": [len(texts), D], "embedding": [len(texts), E]} float32.
        """
        function = self.functions.text
        return self._texts(function, state.variables, texts, batch_size)

    def views(
        self, state: ModelState, source: Source, batch_size: int, seed: int, epoch: int
    ) -> Features:
        """Encodes a random training view of each image, by seed and epoch."""
        order, size = np.arange(len(source)), self._round(batch_size)
        batches = self.view_batches(source, size, order=order, seed=seed, epoch=epoch)
        program = compile_rows(self.functions.image, ("image",), self.mesh)
        return self._collect(program, state.variables, batches, len(source))

    def view_batches(
        self,
        source: Source,
        batch_size: int,
        *,
        order: np.ndarray,
        seed: int,
        epoch: int,
        augment: bool = True,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's part of batches of training views.

        Without `augment` they are the views of evaluation.
        """
        return view_batches(
            source,
            order=order,
            seed=seed,
            epoch=epoch,
            augment=self.augment if augment else None,
            batch_size=batch_size,
            **self._image_options(),
        )

    def comparison(self, similarity: str) -> Comparison:
        """Returns functions whose vectors compare images with texts.

        Args:
          similarity: "contrastive", by the embeddings; or "prediction", the target's
            projection of the image with its online prediction from the text (CLIPin,
            arXiv 2508.06434, `get_similarity(onlyclip=False)` of its code).

        Raises:
          ClipinError: no such similarity, or a model that cannot predict.
        """
        check_choice("similarity", similarity, SIMILARITIES)
        functions: Any = self.functions
        by_prediction = similarity == "prediction"
        if by_prediction:
            functions = functions.prediction(self.tokenizer(("a text",)).shape[1])

        def images(state: ModelState, source: Source, batch_size: int) -> np.ndarray:
            variables = state.target_variables if by_prediction else state.variables
            features = self._cached(functions.image, variables, source, batch_size)
            return features["embedding"]

        def texts(
            state: ModelState, texts: Sequence[str], batch_size: int
        ) -> np.ndarray:
            function, variables = functions.text, state.variables
            return self._texts(function, variables, texts, batch_size)["embedding"]

        return Comparison(images, texts)

    def captioner(self, decoding: Decoding) -> Callable[..., list[str]]:
        """Returns `(state, source, batch_size) -> captions`, one for each image.

        Raises:
          ClipinError: the model cannot write captions, or options are out of range.
        """
        generate = self.functions.captioner(self.tokenizer, decoding)
        program = compile_rows(generate, ("image", "index"), self.mesh)

        def write(state: ModelState, source: Source, batch_size: int) -> list[str]:
            batches = self._image_batches(source, batch_size)
            rows = self._collect(program, state.variables, batches, len(source))
            return [
                read_caption(row, self.tokenizer, decoding.prompt)
                for row in rows["text"]
            ]

        return write

    def matcher(self) -> Callable[..., np.ndarray]:
        """Returns `(state, source, texts, pairs, *, batch_size) -> [P]` scores.

        `pairs` is [P, 2] int: index of an image in the source, index of a text in the
        list. The tokens of all images are kept in memory. `image_batch_size` is that
        of the images, if they are encoded by batches of another size than the pairs.

        Raises:
          ClipinError: the model has no matching objective.
        """
        match_fn = self.functions.match
        if match_fn is None:
            raise ClipinError(
                "the model does not learn to match pairs: add objectives.matching, or "
                "set rerank to 0"
            )
        encode = compile_rows(self.functions.image_tokens, ("image",), self.mesh)
        match = compile_rows(match_fn, ("tokens", "text"), self.mesh)

        def score(
            state: ModelState,
            source: Source,
            texts: Sequence[str],
            pairs: np.ndarray,
            *,
            batch_size: int,
            image_batch_size: int = 0,
        ) -> np.ndarray:
            images = self._image_batches(source, image_batch_size or batch_size)
            tokens = self._collect(encode, state.variables, images, len(source))
            tokens, ids = tokens["tokens"], self.tokenizer(texts)
            batches = (
                {**part, "tokens": tokens[image], "text": ids[text]}
                for part in self._parts(len(pairs), batch_size)
                for image, text in [pairs[part["index"]].T]
            )
            return self._collect(match, state.variables, batches, len(pairs))["score"]

        return score

    def explainer(
        self, method: str, layer: int | None = None, words: bool = False
    ) -> Callable[..., dict[str, np.ndarray]]:
        """Returns `(state, source, texts, batch_size) -> maps` of text i in image i.

        Maps are {"caption": [len(source), rows, columns]} float32; with `words` also
        "tokens" [len(source), L, rows, columns].

        Args:
          method, layer, words: see `saliency.make_map_fn`.

        Raises:
          ClipinError: no such method or layer, or a model without the parts for it.
        """
        image = np.zeros((1, *self.image_size, 3), np.uint8)
        text = self.tokenizer(("a text",))
        options = dict(layer=layer, words=words)
        make_maps = self.functions.explainer(image, text, method, **options)

        def run(variables: Any, image: Any, text: Any) -> dict[str, Any]:
            online, target = variables
            maps = make_maps(online, target, image, text)._asdict()
            return {k: v.astype(np.float32) for k, v in maps.items() if v is not None}

        program = compile_rows(run, ("image", "text"), self.mesh)

        def explain(
            state: ModelState, source: Source, texts: Sequence[str], batch_size: int
        ) -> dict[str, np.ndarray]:
            ids = self.tokenizer(texts)
            batches = (
                {**batch, "text": ids[batch["index"]]}
                for batch in self._image_batches(source, batch_size)
            )
            variables = state.variables, state.target_variables
            return self._collect(program, variables, batches, len(source))

        return explain

    def _cached(
        self, function: Callable, variables: Any, source: Source, batch_size: int
    ) -> Features:
        """Returns the outputs of a function for all images, from the cache if any."""

        def encode() -> Features:
            program = compile_rows(function, ("image",), self.mesh)
            batches = self._image_batches(source, batch_size)
            return self._collect(program, variables, batches, len(source))

        if self._cache is None:
            return encode()
        return self._cache.get(function, variables, source, batch_size, encode=encode)

    def _texts(
        self, function: Callable, variables: Any, texts: Sequence[str], batch_size: int
    ) -> Features:
        program = compile_rows(function, ("text",), self.mesh)
        batches = (
            {**part, "text": self.tokenizer([texts[int(i)] for i in part["index"]])}
            for part in self._parts(len(texts), batch_size)
        )
        return self._collect(program, variables, batches, len(texts))

    def _image_batches(self, source: Source, batch_size: int) -> Iterator[dict]:
        size = self._round(batch_size)
        return eval_batches(source, batch_size=size, **self._image_options())

    def _image_options(self) -> dict[str, Any]:
        return dict(
            image_size=self.image_size,
            interpolation=self.interpolation,
            resize=self.resize,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _round(self, batch_size: int) -> int:
        return -(-batch_size // self.mesh.size) * self.mesh.size

    def _parts(self, count: int, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's indices of each batch, with a mask of the padding."""
        size = self._round(batch_size)
        part = size // jax.process_count()
        offset = part * jax.process_index()
        for start in range(offset, count + offset, size):
            index = np.arange(start, start + part)
            mask = index < count
            yield {"index": np.where(mask, index, 0), "mask": mask}

    def _collect(
        self, program: Callable, variables: Any, batches: Iterable[dict], count: int
    ) -> Features:
        """Runs batches and collects their rows by index: [count, ...]."""
        return collect_rows(program, variables, batches, count, mesh=self.mesh)
