"""Which captions match which images, if several images share a caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipin_jax.evaluators.metrics.scores import MARGIN, feature_ranks

Ranks = tuple[np.ndarray, np.ndarray]  # of images [I] and of captions [T]; 0 is best
_ROWS = 512  # images compared with all captions at a time; they bound the memory


class CaptionMatches:
    """The pairs of an image and a caption that count as matches.

    An image matches the captions that are equal to one of its own, up to case and
    spaces, whichever image they belong to.

    Args:
      captions: T texts.
      image_of_caption: [T] int.
      images: I, the number of images.

    Attributes:
      shared: whether any caption belongs to several images.
    """

    def __init__(
        self, captions: Sequence[str], image_of_caption: np.ndarray, images: int
    ) -> None:
        texts = [" ".join(caption.lower().split()) for caption in captions]
        unique, self._text = np.unique(texts, return_inverse=True)  # [T], the text's id
        self._image_of_caption, self._images = image_of_caption, images
        self._texts = len(unique)
        # A pair of an image and a text is one number; sorted.
        self._pairs = np.unique(image_of_caption * self._texts + self._text)
        self.shared = len(self._pairs) > self._texts

    def __call__(self, image: np.ndarray, caption: np.ndarray) -> np.ndarray:
        """Returns whether images match captions; indices of one shape, as bool."""
        pair = image * self._texts + self._text[caption]
        place = np.searchsorted(self._pairs, pair)
        return self._pairs[np.minimum(place, len(self._pairs) - 1)] == pair

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the number of matches of each image [I] and of each caption [T]."""
        captions_of_text = np.bincount(self._text, minlength=self._texts)
        image, text = np.divmod(self._pairs, self._texts)
        of_images = np.bincount(
            image, weights=captions_of_text[text], minlength=self._images
        )
        return of_images.astype(int), self._images_of_text()[self._text]

    def ranks(self, image: np.ndarray, text: np.ndarray) -> Ranks:
        """Returns the rank of the best match of each image and of each caption.

        Ties with what does not match count against the model.

        Args:
          image: [I, E] float32 of unit norm.
          text: [T, E] float32 of unit norm.
        """
        if not self.shared:
            return feature_ranks(image, text, self._image_of_caption)
        firsts = range(0, len(image), _ROWS)
        best = np.full(len(text), -np.inf)
        for first in firsts:
            cosine, matches = self._rows(image, text, first)
            best = np.maximum(best, np.where(matches, cosine, -np.inf).max(axis=0))
        of_images, of_captions = [], np.zeros(len(text), int)
        for first in firsts:
            cosine, matches = self._rows(image, text, first)
            own = np.where(matches, cosine, -np.inf).max(axis=1, keepdims=True)
            of_images.append((~matches & ~(cosine < own - MARGIN)).sum(axis=1))
            of_captions += (~matches & ~(cosine < best - MARGIN)).sum(axis=0)
        return np.concatenate(of_images), of_captions

    def strict_ceilings(self, k: int) -> tuple[float, float]:
        """Returns the greatest recalls at k if only an image's own captions count.

        A model gives equal captions equal vectors, so it cannot know which of the
        images is meant. Image to text, then text to image.
        """
        image, text = np.divmod(self._pairs, self._texts)
        every = self._image_of_caption * self._texts + self._text
        own = np.unique(every, return_counts=True)[1]  # copies of the text, per pair
        copies = np.bincount(self._text, minlength=self._texts)
        fewest_others = np.full(self._images, len(every))
        np.minimum.at(fewest_others, image, copies[text] - own)
        # The k images with the most copies of a text rank first for each copy.
        order = np.lexsort((-own, text))
        start = np.searchsorted(text[order], text[order])
        within = np.arange(len(order)) - start < k
        return (
            float(np.mean(fewest_others < k)),
            float(own[order][within].sum() / len(every)),
        )

    def _images_of_text(self) -> np.ndarray:
        return np.bincount(self._pairs % self._texts, minlength=self._texts)

    def _rows(
        self, image: np.ndarray, text: np.ndarray, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns cosines and matches of some images with all captions, [rows, T]."""
        rows = image[first : first + _ROWS]
        index = np.arange(first, first + len(rows))[:, None]
        return rows @ text.T, self(index, np.arange(len(text))[None])
