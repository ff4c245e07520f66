"""Every row of `TRANSFORMS`: an image of the same shape, by the generator alone."""

import pickle

import numpy as np
import pytest

from clipin_jax.data.image import TRANSFORMS, make_transforms, views
from clipin_jax.errors import ClipinError
from tests.data.image.test_views import OFF, smooth_image


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_the_generator_decides(name):
    [transform] = make_transforms({name: {}})
    copy = pickle.loads(pickle.dumps(transform))
    image = smooth_image()
    before, made = image.copy(), []
    for seed in range(20):
        one, other = (
            each(image, np.random.default_rng(seed)) for each in (transform, copy)
        )
        assert one.shape == image.shape and one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)
        made.append(one.tobytes())
    np.testing.assert_array_equal(image, before)
    assert len(set(made)) > 1


class Narrow:
    """A transform of another package that breaks the contract."""

    def __call__(self, view, rng):
        return view[:, 1:]


def test_a_view_of_another_shape_is_an_error():
    [transform] = make_transforms({"mine": dict(type=f"{__name__}:Narrow")})
    image = smooth_image()
    view = views.sample_view(np.random.default_rng(0), 48, 64, OFF)
    with pytest.raises(ClipinError, match="Narrow returned uint8 of shape"):
        views.apply_view(image, view, (8, 8), transforms=[transform])


def test_wrong_names():
    with pytest.raises(ClipinError, match="did you mean 'rand_augment'"):
        make_transforms({"rand_augmnt": {}})
    with pytest.raises(ClipinError, match="rand_augment.magnitud does.*'magnitude'"):
        make_transforms({"rand_augment": dict(magnitud=3)})
