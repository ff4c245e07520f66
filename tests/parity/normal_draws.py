"""Normal numbers as PyTorch draws them on a CPU, from a seed and a place in its stream.

The inputs and weights of golden files were drawn so. A seed takes less room than
thousands of numbers without a pattern.

The generator is the Mersenne Twister, seeded as numpy's `RandomState`, whose bits never
change. Two words of 32 bits make one uniform number, 16 uniform numbers make 16 normal
ones by the transform of Box and Muller (`normal_fill` in PyTorch's
`DistributionTemplates.h`).
"""

import functools
from typing import NamedTuple

import numpy as np

BLOCK = 16  # uniform numbers that are transformed together


class Draw(NamedTuple):
    """Where the numbers of an array come from: float32(mean + std * normal).

    Attributes:
      mean: of the numbers.
      std: their standard deviation.
      seed: of the generator.
      start: how many words the generator gives before.
    """

    mean: float
    std: float
    seed: int
    start: int

    def numbers(self, size: int) -> np.ndarray:
        """Returns [size] float64 numbers that float32 can represent.

        Args:
          size: how many, at least `BLOCK`. PyTorch draws fewer in another way.
        """
        end = self.start + _count_words(size)
        normal = _normal(words(self.seed, end)[self.start :], size)
        return (self.mean + self.std * normal).astype(np.float32).astype(np.float64)


def words(seed: int, count: int) -> np.ndarray:
    """Returns at least `count` words of a generator, uint32."""
    length = 1 << max(count - 1, 0).bit_length()
    return _first_words(seed, length)


@functools.lru_cache(maxsize=4)
def _first_words(seed: int, count: int) -> np.ndarray:
    return np.frombuffer(np.random.RandomState(seed).bytes(4 * count), "<u4")


def _count_words(size: int) -> int:
    """Returns how many words a draw takes: two a number, also of the last block."""
    return 2 * (size + BLOCK * (size % BLOCK > 0))


def _normal(bits: np.ndarray, size: int) -> np.ndarray:
    """A last block that is not full is drawn anew, over the last `BLOCK` numbers."""
    numbers = uniform(*bits[: _count_words(size)].reshape(-1, 2).T)
    blocks, last = numbers[: size // BLOCK * BLOCK], numbers[size:]
    return np.concatenate(
        [_transformed(blocks)[: size - last.size], _transformed(last)]
    )


def _transformed(numbers: np.ndarray) -> np.ndarray:
    """Transforms each block: its first half gives radii, its second half angles."""
    halves = numbers.reshape(-1, 2, BLOCK // 2)
    return np.stack(box_muller(halves[:, 0], halves[:, 1]), 1).ravel()


def box_muller(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns two arrays of normal numbers from two of uniform ones."""
    radius, angle = np.sqrt(-2 * np.log(1 - a)), 2 * np.pi * b
    return radius * np.cos(angle), radius * np.sin(angle)


def uniform(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Returns numbers in [0, 1) from the last 53 of the 64 bits of two words."""
    bits = (high.astype(np.uint64) << 32 | low) & (2**53 - 1)
    return bits * 2.0**-53
