"""Views made on the device, from one square image and the parameters of each view.

The host draws the parameters of a view and applies them with OpenCV. With
`data.augment_on = "device"` it only draws them, and this module applies them within the
jitted step. The images agree with the host's up to OpenCV's fixed-point rounding, which
is followed too; the tests state how closely.

There are no gathers. Crop, mirror and scale are one matrix for the rows and one for the
columns of each image, made from a range of pixels and the box; so is the blur. The
batch axis stays split over the devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from clipin_jax.types import Array

DRAWN = (
    "top", "left", "height", "width", "flip", "brightness", "contrast", "saturation",
    "hue", "grayscale", "blur_sigma",
)  # fmt: skip
"""The columns of `drawn`: the fields of the host's ViewParameters, in their order."""

_LUMA = (0.299, 0.587, 0.114)
# A quarter turn of the colour plane of YIQ, in RGB: its inverse times the turn times
# YIQ itself. The whole turn of an angle is luma + cos (x - luma) + sin (quarter x).
_QUARTER = (
    (0.16773971, 0.32930952, -0.49704924),
    (-0.32811313, 0.03546699, 0.29264614),
    (1.24954590, -1.04633920, -0.20320670),
)
_MILD = 1.5  # as on the host: the factor from which shrinking averages areas
_CUBIC = -0.75  # OpenCV's; Pillow's is -0.5
# For 8-bit pixels, OpenCV rounds weights to 1 / 2048, those of a Gaussian to 1 / 256.
_FIXED = 2048
_BLUR_FIXED = 256
# Products in float32. With bfloat16, the default on TPU, views differ by up to 3 levels
# of 255, on average by a quarter (224 px, bicubic). That would save about one percent
# of the arithmetic of ViT-B/16's CLIP on a TPU.
_PRECISION = jax.lax.Precision.HIGHEST


def make_views(
    batch: Mapping[str, Any], size: tuple[int, int], interpolation: str
) -> Mapping[str, Any]:
    """Crops, scales and colours all views of a batch; pure and jittable.

    Args:
      batch: `canvas`: [B, S, S, 3] uint8, and views that each hold `drawn`:
        [B, 11] float32, the columns of `DRAWN`. Boxes are whole pixels of the canvas
        and lie within it. Other entries are kept. A batch without `canvas` is returned
        unchanged: its views are made.
      size: (height, width) of the views in pixels.
      interpolation: "bicubic", "bilinear" or "nearest", for views larger than the box
        on either side. Otherwise, as on the host, areas are averaged or, up to a factor
        of 1.5, the scaling is bilinear.

    Returns:
      The batch without `canvas`, each view with `image`: [B, *size, 3] uint8 in place
      of `drawn`. A blur reaches no further than the view is wide.
    """
    if "canvas" not in batch:
        return batch
    # Planes of rows, so that every product below is a plain one of two matrices; both
    # views share them.
    planes = batch["canvas"].transpose(0, 1, 3, 2)

    def with_image(view: Any) -> Any:
        if not isinstance(view, Mapping) or "drawn" not in view:
            return view
        rest = {key: value for key, value in view.items() if key != "drawn"}
        return rest | {"image": _view(planes, view["drawn"], size, interpolation)}

    return {key: with_image(value) for key, value in batch.items() if key != "canvas"}


def _view(
    planes: Array, drawn: Array, size: tuple[int, int], interpolation: str
) -> Array:
    """Returns the views [B, *size, 3] uint8 of [B, S, 3, S] uint8 and [B, 11]."""
    top, left, height, width, flip, *colour, sigma = drawn.T
    fits = (height >= size[0]) & (width >= size[1])
    mild = (height < _MILD * size[0]) & (width < _MILD * size[1])

    def scaling(start: Array, length: Array, old: int, new: int, mirror: Any) -> Array:
        box = start, length, old, new, mirror
        point = _point_weights(*box, "bilinear")
        shrunk = jnp.where(_each(mild), point, _area_weights(*box))
        return jnp.where(_each(fits), shrunk, _point_weights(*box, interpolation))

    rows = scaling(top, height, planes.shape[1], size[0], jnp.zeros_like(flip))
    columns = scaling(left, width, planes.shape[3], size[1], flip)
    view = _to_pixels(_products(planes.astype(jnp.float32), rows, columns))
    view = _colour(view, *colour)
    # Skipped where no view of the batch is blurred: it is half of the work.
    view = jax.lax.cond(jnp.any(sigma > 0), _blurred, lambda x, _: x, view, sigma)
    return view.astype(jnp.uint8).transpose(0, 1, 3, 2)


def _each(x: Array, axes: int = 2) -> Array:
    """Returns [B] as [B, 1, ...], to be broadcast over images or their weights."""
    return x.reshape(-1, *[1] * axes)


def _products(planes: Array, rows: Array, columns: Array) -> Array:
    """Returns [B, H, 3, W], from [B, S, 3, T], [B, H, S] and [B, W, T]."""
    half = jnp.einsum("bhs,bsct->bhct", rows, planes, precision=_PRECISION)
    return jnp.einsum("bhct,bwt->bhcw", half, columns, precision=_PRECISION)


def _to_pixels(x: Array) -> Array:
    """Returns whole numbers from 0 to 255, halves rounded up as in OpenCV."""
    return jnp.clip(jnp.floor(x + 0.5), 0, 255)


def _places(new: int, mirror: Array) -> Array:
    """Returns [B, new, 1]: the pixel of the view of each row of weights."""
    place = jnp.arange(new, dtype=jnp.float32)
    return jnp.where(mirror[:, None] > 0, new - 1 - place, place)[..., None]


def _area_weights(start, length, old: int, new: int, mirror) -> Array:
    """Returns [B, new, old]: the share of each old pixel in the span of a new one."""
    place, length = _places(new, mirror), _each(length)
    # Multiplied before divided: exact where the span ends with a pixel.
    first, last = place * length / new, (place + 1) * length / new
    pixel = jnp.arange(old, dtype=jnp.float32) - _each(start)
    shared = jnp.minimum(last, pixel + 1) - jnp.maximum(first, pixel)
    return jnp.maximum(shared, 0) * new / length


def _point_weights(
    start, length, old: int, new: int, mirror, interpolation: str
) -> Array:
    """Returns [B, new, old]: the weights that interpolate at new pixels' centres."""
    # OpenCV's nearest takes the corner. Half a pixel of the old image more keeps an
    # inexact division on the right side.
    inside = 0.5 / _each(length) if interpolation == "nearest" else 0.5
    at = (_places(new, mirror) + inside) / new
    return _weights(start, length, old, at, interpolation)


def _weights(start, length, old: int, at: Array, interpolation: str) -> Array:
    """Returns [B, new, old]: the weights that interpolate at shares `at` of the box."""
    length = _each(length)
    if interpolation == "nearest":
        corner, taps = jnp.floor(at * length), {0: 1.0}
    else:
        x = at * length - 0.5
        corner = jnp.floor(x)
        taps = (_linear if interpolation == "bilinear" else _cubic)(x - corner)
    pixel = jnp.arange(old, dtype=jnp.float32) - _each(start)
    weights = jnp.zeros(pixel.shape[:1] + (at.shape[1], old))
    for step, weight in taps.items():  # pixels beyond the border repeat it
        is_tap = pixel == jnp.clip(corner + step, 0, length - 1)
        weights += jnp.where(is_tap, weight, 0)
    return weights


def _linear(t: Array) -> dict[int, Array]:
    return {step: _fixed(weight) for step, weight in ((0, 1 - t), (1, t))}


def _cubic(t: Array) -> dict[int, Array]:
    def near(x: Array) -> Array:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1

    def far(x: Array) -> Array:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    taps = {-1: far(t + 1), 0: near(t), 1: near(1 - t), 2: far(2 - t)}
    return {step: _fixed(weight) for step, weight in taps.items()}


def _fixed(weight: Array) -> Array:
    return jnp.round(weight * _FIXED) / _FIXED


def _colour(view: Array, brightness, contrast, saturation, hue, grayscale) -> Array:
    """Returns [B, H, 3, W] pixels after one affine map of colours, as on the host."""
    luma = jnp.einsum("bhcw,c->bhw", view, jnp.array(_LUMA), precision=_PRECISION)
    luma = luma[:, :, None]
    quarter = jnp.einsum(
        "bhcw,dc->bhdw", view, jnp.array(_QUARTER), precision=_PRECISION
    )
    angle = 2 * jnp.pi * hue
    chroma = jnp.where(grayscale > 0, 0, saturation)
    turned = luma + _each(chroma * jnp.cos(angle), 3) * (view - luma)
    turned += _each(chroma * jnp.sin(angle), 3) * quarter
    offset = (1 - contrast) * luma.mean(axis=(1, 2, 3))
    turned = _each(contrast, 3) * turned + _each(offset, 3)
    return _to_pixels(_each(brightness, 3) * turned)


def _blurred(view: Array, sigma: Array) -> Array:
    rows, columns = (_blur_weights(sigma, view.shape[axis]) for axis in (1, 3))
    return _to_pixels(_products(view, rows, columns))


def _blur_weights(sigma: Array, n: int) -> Array:
    """Returns [B, n, n]: OpenCV's Gaussian for 8 bits, on images mirrored at edges.

    Mirrored without repeating its edge, an image has the period 2 n - 2, and the
    Gaussian is one row of weights that moves by a pixel a row.
    """
    row = _gaussian(sigma[:, None], n)
    row = jnp.concatenate([row, row[:, n - 2 : 0 : -1]], axis=1)
    period = row.shape[1]
    # Rows of the period plus one: each is moved by one against the one before it.
    moved = jnp.tile(row, (1, n + 1))[:, : n * (period + 1)]
    moved = moved.reshape(-1, n, period + 1)
    both = moved[..., :n] + moved[..., : n - 2 : -1]
    # The first and last pixel have no mirror image.
    place = jnp.arange(n)
    return jnp.where((place == 0) | (place == n - 1), both / 2, both)


def _gaussian(sigma: Array, n: int) -> Array:
    """Returns [B, n]: OpenCV's weights by distance, in multiples of 1 / 256.

    It rounds from the edge inwards and carries the error along, so sums are rounded.
    """
    distance = jnp.arange(n, dtype=jnp.float32)
    radius = jnp.floor(jnp.round(6 * sigma + 1) / 2)
    raw = jnp.exp(-0.5 * jnp.square(distance / jnp.maximum(sigma, 1e-6)))
    raw = jnp.where(distance <= radius, raw, 0)
    raw /= 2 * raw.sum(axis=1, keepdims=True) - 1  # the centre stands once
    outside = jnp.cumsum(raw[:, ::-1], axis=1)[:, ::-1]
    outside = jnp.round(outside * _BLUR_FIXED) / _BLUR_FIXED
    inner = outside[:, :-1] - outside[:, 1:]
    centre = 1 - 2 * outside[:, 1:2]
    return jnp.concatenate([centre, inner[:, 1:], outside[:, -1:]], axis=1)
