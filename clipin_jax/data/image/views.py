"""Views of a decoded image: the input of a model.

The parameters of a view are drawn first (`sample_view`) and applied afterwards
(`apply_view`), so that a device may apply them as well. `augment` is the dict
`config.data.augment`; each key is off at 0:

  resize_first      side of a square that the image is scaled to before cropping
  crop_scale        least and greatest share of the area that is kept
  crop_ratio        least and greatest width over height of the part that is kept
  flip              probability of left-right mirroring (0 where captions say "left")
  brightness, contrast, saturation
                    jitter: factors from [1 - x, 1 + x]
  hue               jitter: shares of a full turn from [-x, x], at most 0.5
  jitter_probability  share of views whose colours are jittered
  grayscale         probability of losing all colour
  blur              probability of a Gaussian blur
  blur_sigma        least and greatest standard deviation, in pixels of the view
  transforms        name to type and arguments of a `Transform`; applied in this
                    order, after the crop and before the jitter
  interpolation     "bicubic", "bilinear" or "nearest"

The recipe of the released CLIPin: resize_first=224, crop_scale=(0.8, 1.0),
crop_ratio=(1.0, 1.0), flip=0.5, brightness=0.1, all else off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from clipin_jax.data.image.transform import Transform
from clipin_jax.errors import ClipinError, check_choice

_CROP_ATTEMPTS = 10
_CV2 = {
    "bicubic": cv2.INTER_CUBIC,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}
_PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
SHORTEST, SQUASH = "shortest", "squash"
RESIZES = (SHORTEST, SQUASH)  # how an image of another shape becomes that of the model
_MILD = 1.5  # the factor of shrinking up to which bilinear points skip no pixel
_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array(
    [_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


class ViewParameters(NamedTuple):
    """Everything random about one view; the defaults change nothing.

    top, left, height, width: of the crop, in pixels of the image.
    flip: whether it is mirrored. brightness, contrast, saturation: factors.
    hue: share of a full turn. grayscale: whether colour is removed.
    blur_sigma: in pixels of the view, 0 for none. seed: of the transforms.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    grayscale: bool = False
    blur_sigma: float = 0.0
    seed: int = 0


def check_augment(augment: Mapping[str, Any]) -> None:
    """Checks the values of `augment`. Raises ClipinError."""
    for key in ("flip", "jitter_probability", "grayscale", "blur"):
        _check(0 <= augment[key] <= 1, key, augment[key], "a probability")
    for key in ("brightness", "contrast", "saturation"):
        _check(0 <= augment[key] <= 1, key, augment[key], "from 0 to 1")
    _check(0 <= augment["hue"] <= 0.5, "hue", augment["hue"], "from 0 to 0.5")
    low, high = augment["crop_scale"]
    _check(0 < low <= high <= 1, "crop_scale", (low, high), "0 < low <= high <= 1")
    for key in ("crop_ratio", "blur_sigma"):
        low, high = augment[key]
        _check(0 < low <= high, key, (low, high), "0 < low <= high")
    size = augment["resize_first"]
    _check(size == int(size) >= 0, "resize_first", size, "a number of pixels or 0")
    check_interpolation(augment["interpolation"], "data.augment.interpolation")


def check_on_device(augment: Mapping[str, Any]) -> None:
    """Checks that the device can make the views of `augment`. Raises ClipinError."""
    if not augment["resize_first"]:
        raise ClipinError(
            "data.augment_on is 'device', which takes images of one size: set "
            "data.augment.resize_first to their side, at least data.image_size"
        )
    if augment["transforms"]:
        raise ClipinError(
            "data.augment_on is 'device', and data.augment.transforms "
            f"({', '.join(augment['transforms'])}) run on the host: set "
            "data.augment.transforms={}, or data.augment_on=host"
        )


def check_interpolation(interpolation: str, key: str) -> None:
    """Checks a name of an interpolation. Raises ClipinError."""
    check_choice(key, interpolation, _CV2)


def check_resize(resize: str, key: str) -> None:
    """Checks a way to resize. Raises ClipinError."""
    check_choice(key, resize, RESIZES)


def _check(holds: bool, key: str, value: Any, meaning: str) -> None:
    if not holds:
        raise ClipinError(f"data.augment.{key} is {value}; it must be {meaning}")


def prepare(image: np.ndarray, augment: Mapping[str, Any]) -> np.ndarray:
    """Scales an image to the square of `resize_first`, once for both views.

    image: [H, W, 3] uint8 -> [S, S, 3] uint8; without `resize_first` the same array.
    """
    size = augment["resize_first"]
    if size:
        return resize(_to_multiple(image, size), (size, size), augment["interpolation"])
    return image


def needed_share(views: Sequence[ViewParameters], size: tuple[int, int]) -> float:
    """Returns the share of an image's height and width to decode for some views.

    It is the least at which no crop is smaller than `size`; at most 1.
    """
    shares = [max(size[0] / view.height, size[1] / view.width) for view in views]
    return min(1.0, max(shares))


def scaled(view: ViewParameters, down: float, right: float) -> ViewParameters:
    """Returns the same view of an image that was decoded in another size.

    down, right: its new height and width over the old ones.
    """
    top, left = round(view.top * down), round(view.left * right)
    bottom = max(top + 1, round((view.top + view.height) * down))
    end = max(left + 1, round((view.left + view.width) * right))
    return view._replace(top=top, left=left, height=bottom - top, width=end - left)


def numbers(view: ViewParameters) -> np.ndarray:
    """Returns the parameters for a device: all fields but the last, [11] float32."""
    return np.array(view[:-1], np.float32)


def sample_view(
    rng: np.random.Generator, height: int, width: int, augment: Mapping[str, Any]
) -> ViewParameters:
    """Draws one view of an image of height x width pixels.

    The crop is that of Szegedy et al. 2015 ("Going deeper with convolutions"): area
    uniform, ratio log-uniform; where ten draws did not fit, the largest centred crop of
    an allowed ratio.
    """
    box = _sample_crop(rng, height, width, augment["crop_scale"], augment["crop_ratio"])
    # Always the same number of draws, so that one option does not change the others.
    flip, jitter, gray, blur, sigma = rng.random(5)
    strength = float(jitter < augment["jitter_probability"])
    factors = rng.uniform(-strength, strength, 4)
    low, high = augment["blur_sigma"]
    seed = 0
    if augment["transforms"]:
        # A stream of its own, so that all other draws stay the same.
        seed = int(rng.spawn(1)[0].integers(2**63))
    return ViewParameters(
        *box,
        flip=bool(flip < augment["flip"]),
        brightness=float(1 + factors[0] * augment["brightness"]),
        contrast=float(1 + factors[1] * augment["contrast"]),
        saturation=float(1 + factors[2] * augment["saturation"]),
        hue=float(factors[3] * augment["hue"]),
        grayscale=bool(gray < augment["grayscale"]),
        blur_sigma=float(low + sigma * (high - low)) if blur < augment["blur"] else 0.0,
        seed=seed,
    )


def _sample_crop(rng, height, width, scale, ratio) -> tuple[int, int, int, int]:
    draws = rng.random((_CROP_ATTEMPTS, 4))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for area, shape, down, right in draws.tolist():
        pixels = height * width * (scale[0] + area * (scale[1] - scale[0]))
        aspect = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    h = max(1, min(height, round(width / aspect)))
    w = max(1, min(width, round(height * aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def apply_view(
    image: np.ndarray,
    parameters: ViewParameters,
    size: tuple[int, int],
    interpolation: str = "bicubic",
    *,
    transforms: Sequence[Transform] = (),
) -> np.ndarray:
    """Applies parameters: crops, scales, transforms and colours.

    image: [H, W, 3] uint8; size: (height, width) of the view -> uint8 of that size.
    """
    top, left, height, width = parameters[:4]
    view = image[top : top + height, left : left + width]
    view = resize(view, size, interpolation)
    if parameters.flip:
        view = cv2.flip(view, 1)
    if transforms:
        view = _transform(view, transforms, parameters.seed)
    view = _colour(view, parameters)
    if parameters.blur_sigma:
        view = cv2.GaussianBlur(view, (0, 0), parameters.blur_sigma)
    return np.ascontiguousarray(view)


def _transform(
    view: np.ndarray, transforms: Sequence[Transform], seed: int
) -> np.ndarray:
    rng, shape = np.random.default_rng(seed), view.shape
    for transform in transforms:
        view = transform(view, rng)
        if view.shape != shape or view.dtype != np.uint8:
            raise ClipinError(
                f"data.augment.transforms: {type(transform).__name__} returned "
                f"{view.dtype} of shape {view.shape}; a view is uint8 of shape {shape}"
            )
    return view


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Scales for training: [H, W, 3] uint8 -> [*size, 3] uint8.

    Strong shrinking averages areas, whatever the interpolation: OpenCV's bicubic skips
    pixels there. Up to a factor of 1.5 bilinear skips none, at a seventh of the time.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    how = _CV2[interpolation]
    if size[0] <= height and size[1] <= width:
        mild = height < _MILD * size[0] and width < _MILD * size[1]
        how = cv2.INTER_LINEAR if mild else cv2.INTER_AREA
    return cv2.resize(image, size[::-1], interpolation=how)


def _to_multiple(image: np.ndarray, side: int) -> np.ndarray:
    """Scales to a multiple of a square's side, with bilinear points that skip no pixel.

    To average these points takes a third of the time of exact areas (640 x 427 to 224 x
    224: 0.35 against 1.2 ms), and the result is as close to Pillow's.
    """
    points = [math.ceil(old / (_MILD * side)) * side for old in image.shape[:2]]
    if min(image.shape[:2]) < side or tuple(points) == image.shape[:2]:
        return image
    return cv2.resize(image, points[::-1], interpolation=cv2.INTER_LINEAR)


def _colour(view: np.ndarray, parameters: ViewParameters) -> np.ndarray:
    """Applies brightness, contrast, saturation, hue and grayscale as one affine map.

    Hue rotates the colour plane of YIQ, which is linear, in place of HSV's hexagon.
    """
    brightness, contrast, saturation, hue, grayscale = parameters[5:10]
    if (brightness, contrast, saturation, hue) == (1, 1, 1, 0) and not grayscale:
        return view
    angle = 2 * math.pi * hue
    chroma = 0.0 if grayscale else saturation
    cosine, sine = chroma * math.cos(angle), chroma * math.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix = brightness * contrast * (_FROM_YIQ @ turn @ _TO_YIQ)
    offset = 0.0
    if contrast != 1:
        offset = (1 - contrast) * brightness * float(_LUMA @ cv2.mean(view)[:3])
    # The offset is equal in all channels, so it changes only the luma, and the order
    # of the operations does not matter.
    affine = np.concatenate([matrix, np.full((3, 1), offset)], axis=1)
    return cv2.transform(view, affine)


def evaluation_view(
    image: np.ndarray,
    size: tuple[int, int],
    interpolation: str = "bicubic",
    resize: str = SHORTEST,
) -> np.ndarray:
    """Returns the view of evaluation.

    It uses Pillow's antialiased filters, as published weights were evaluated.

    Args:
      image: [H, W, 3] uint8.
      size: (height, width) of the view.
      interpolation: "bicubic", "bilinear" or "nearest".
      resize: `shortest`, the shortest side is scaled to the view and the centre is
        cropped, as CLIP does; or `squash`, the whole image is scaled to the view and
        changes its shape, as SigLIP does.

    Returns:
      [*size, 3] uint8.
    """
    height, width = image.shape[:2]
    if resize == SQUASH:
        new = tuple(size)
    elif size[0] * width <= size[1] * height:
        new = max(size[0], int(size[1] * height / width)), size[1]
    else:
        new = size[0], max(size[1], int(size[0] * width / height))
    if new != (height, width):
        scaled_image = Image.fromarray(image).resize(
            (new[1], new[0]), _PILLOW[interpolation]
        )
        image = np.asarray(scaled_image)
    top, left = round((new[0] - size[0]) / 2), round((new[1] - size[1]) / 2)
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])
