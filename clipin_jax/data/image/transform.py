"""What changes a view on the host: the protocol of `data.augment.transforms`."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Transform(Protocol):
    """Changes a training view after the crop and before the colour jitter.

    The class is called as `Class(**arguments)`, with the keys of its entry as keyword
    arguments, and raises ClipinError for values that make no sense. Worker processes
    get a pickled copy.
    """

    def __call__(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns another image of the same shape.

        Args:
          view: [H, W, 3] uint8 RGB; not to be changed in place.
          rng: the only source of randomness, so that a resumed run sees equal views.
        """
        ...
