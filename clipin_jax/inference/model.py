"""`load`: a trained model as one object, which takes images and texts of any kind."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clipin_jax.data.source import Source
from clipin_jax.errors import ClipinError, check_choice, shorten
from clipin_jax.inference.caption import default_decoding
from clipin_jax.inference.class_vectors import class_cosines, class_probabilities
from clipin_jax.inference.given_images import GivenImages
from clipin_jax.inference.open_model import OpenedModel, model_fingerprint, open_model
from clipin_jax.inference.prompts import choose_names, choose_prompts

BATCH_SIZE = 64  # images or texts at a time
SCORES = ("cosine", "logits", "probabilities")


def load(
    source: str | Path, *, step: int | None = None, batch_size: int = BATCH_SIZE
) -> Model:
    """Loads a model.

        model = clipin_jax.load("runs/quickstart")
        cosines = model.similarity(["a.jpg", "b.jpg"], ["a red star", "a blue ring"])

    Only the config and one checkpoint of a run are read, none of its data.

    Args:
      source: the folder of a run, by path or URL; or FOLDER@STEP for one of its
        checkpoints.
      step: the checkpoint's step; None for the newest undamaged one.
      batch_size: most images, texts or pairs at a time, over all devices. It bounds the
        memory.

    Returns:
      The model, which takes images as files or pixels, and texts as strings.

    Raises:
      ClipinError: no model there, or no such checkpoint.
    """
    if batch_size < 1:
        raise ClipinError(f"batch_size is {batch_size}: it must be at least 1")
    return Model(open_model(source, step), batch_size)


class Model:
    """A model that encodes, compares, classifies, captions and explains.

    `images` is one or many of: a file by path or URL; bytes of an encoded file; an
    image of Pillow; pixels [H, W, 3] uint8; or an array [B, H, W, 3] uint8. `texts` is
    one or many strings. Results are numpy arrays or lists with a row for each image or
    text, also where there is one alone. Images and texts are preprocessed as in
    evaluation; a text that is too long is cut.

    Inputs of any number are padded to a power of two times the devices, at most
    `batch_size`, so that each method is compiled once for each of these few sizes.

    Every method raises ClipinError for a wrong input, with its place in the list, and
    for a model that lacks the part.

    Attributes:
      name: what holds the model.
      config: of the model.
      batch_size: most rows at a time.
    """

    def __init__(self, opened: OpenedModel, batch_size: int = BATCH_SIZE) -> None:
        """Keeps a model; nothing is compiled yet."""
        self.name, self.config = opened.name, opened.config
        self.batch_size = batch_size
        self._opened, self._encoder = opened, opened.encoder
        self._state = opened.state
        # Each makes a new function, whose program is compiled once.
        self._captioner = functools.lru_cache(self._encoder.captioner)
        self._explainer = functools.lru_cache(self._encoder.explainer)

    def encode_image(self, images: Any) -> np.ndarray:
        """Returns the embeddings of images, [B, E] float32 of unit norm."""
        self._check_joint_space()
        source = GivenImages(images)
        size = self._size(len(source))
        return self._encoder.images(self._state, source, size)["embedding"]

    def stream_images(self, source: Source) -> Iterator[np.ndarray]:
        """Yields the embeddings of a data source, [b, E] float32, batch by batch.

        source: see `data.make_source`; all of its images are encoded, in their order.
        """
        self._check_joint_space()
        size = self._size(len(source))
        return self._encoder.stream_images(self._state, source, size)

    def encode_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Returns the embeddings of texts, [T, E] float32 of unit norm."""
        self._check_joint_space()
        texts = _check_texts(texts)
        size = self._size(len(texts))
        return self._encoder.texts(self._state, texts, size)["embedding"]

    def similarity(
        self, images: Any, texts: str | Sequence[str], score: str = "cosine"
    ) -> np.ndarray:
        """Returns the score of each image with each text, [B, T] float32.

        Args:
          images, texts: see the class.
          score: "cosine" of the embeddings; "logits" of the objective that learned
            them; or "probabilities" of that objective: with a softmax, of each text
            among those given; with a sigmoid, of each pair alone.
        """
        check_choice("score", score, SCORES)
        scale = self._encoder.functions.scale if score != "cosine" else None
        if score != "cosine" and scale is None:
            raise ClipinError(
                f"{self.name} has no objective that turns cosines into {score}: take "
                "score='cosine'"
            )
        texts = _check_texts(texts)
        cosine = self.encode_image(images) @ self.encode_text(texts).T
        if scale is None:
            return cosine
        return np.asarray(scale(self._state.variables, cosine)[SCORES.index(score) - 1])

    def zero_shot(
        self, images: Any, classes: Sequence[str], templates: Sequence[str] = ()
    ) -> np.ndarray:
        """Returns the probability of each class for each image, [B, K] float32.

        Computed as by the evaluator `zero_shot`: the softmax over classes of 100 times
        the cosine of the image and the mean of the prompts.

        Args:
          images: see the class.
          classes: at least two names.
          templates: prompts with "{}" for the name; () for the bare name.
        """
        prompts = choose_prompts(choose_names((), classes, "", ""), templates, "", "")
        cosines = class_cosines(self.encode_image(images), prompts, self.encode_text)
        return class_probabilities(cosines).astype(np.float32)

    def match(self, images: Any, texts: str | Sequence[str]) -> np.ndarray:
        """Returns matching scores, [B, T] float32; larger for better matches.

        They are those of an objective that reads image and text together, as
        `matching`. Every pair is run through the model.
        """
        score = self._encoder.matcher()
        source, texts = GivenImages(images), _check_texts(texts)
        shape = len(source), len(texts)
        scores = score(
            self._state,
            source,
            texts,
            np.argwhere(np.ones(shape)),
            batch_size=self._size(shape[0] * shape[1]),
            image_batch_size=self._size(len(source)),
        )
        return scores.reshape(shape)

    def caption(self, images: Any, strategy: str = "") -> list[str]:
        """Returns a caption for each image.

        Args:
          images: see the class.
          strategy: "greedy", "beam" or "nucleus"; "" for that of the first evaluation
            in the config that has `decoding`, else greedy.
        """
        decoding = default_decoding(self.config)
        if strategy:
            decoding = decoding._replace(strategy=strategy)
        write = self._captioner(decoding)
        source = GivenImages(images)
        return write(self._state, source, self._size(len(source)))

    def explain(self, image: Any, text: str, method: str = "contrastive") -> np.ndarray:
        """Returns where the model looks in an image for a text.

        Args:
          image: one, see the class.
          text: what to look for.
          method: see `explain_image`.

        Returns:
          [rows, columns] float32 over patches, not below 0, of any scale. The patches
          cover the whole image, which is resized for the model.
        """
        explain = self._explainer(method)
        source, texts = GivenImages(image), _check_texts(text)
        if (len(source), len(texts)) != (1, 1):
            raise ClipinError(
                f"there are {len(source)} images and {len(texts)} texts: explain one "
                "image for one text at a time"
            )
        return explain(self._state, source, texts, self._size(1))["caption"][0]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A short hash of variables and preprocessing, the same on any machine."""
        return model_fingerprint(self._opened)

    @functools.cached_property
    def width(self) -> int:
        """E, the width of embeddings."""
        self._check_joint_space()
        ids = self._encoder.tokenizer(("a text",))
        text = self._encoder.functions.text
        return jax.eval_shape(text, self._state.variables, ids)["embedding"].shape[1]

    def __repr__(self) -> str:
        model, objectives = self.config.model, list(self.config.objectives)
        count = sum(x.size for x in jax.tree.leaves(self._state.variables["params"]))
        height, width = self._encoder.image_size
        return (
            f"<Model {self.name}: {model.image.name} for images of {height} x {width} "
            f"pixels, {model.text.name} for {self.config.data.context_length} tokens, "
            f"{count:,} parameters, learned by {', '.join(objectives)}, on "
            f"{self._encoder.mesh.size} x {jax.devices()[0].device_kind}>"
        )

    def _size(self, count: int) -> int:
        """Returns the rows of a batch, a multiple of the devices; see the class."""
        devices = self._encoder.mesh.size
        most = -(-self.batch_size // devices)
        wanted = -(-min(count, self.batch_size) // devices)
        return devices * min(1 << (wanted - 1).bit_length(), most)

    def _check_joint_space(self) -> None:
        model = self.config.model
        if not (model.embed_dim or model.embedding_from):
            raise ClipinError(
                f"{self.name} has no joint space of images and texts "
                "(model.embed_dim is 0), so it has no embeddings"
            )


def _check_texts(texts: Any) -> list[str]:
    """Returns one or many texts as a list. Raises ClipinError if one is no string."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes) or not hasattr(texts, "__iter__"):
        raise ClipinError(
            f"texts are of type {type(texts).__name__}: give one string or many"
        )
    texts = list(texts)
    if not texts:
        raise ClipinError("there is no text: give at least one string")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ClipinError(
                f"text {index} is of type {type(text).__name__}, "
                f"{shorten(repr(text), 40)}: give a string"
            )
    return texts
