import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clipin_jax.config import load_config
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.probes.linear_head import (
    epoch_order,
    head_logits,
    new_head,
    sigmoid_loss,
)
from clipin_jax.evaluators.released_probe import ReleasedProbe
from tests.support.in_memory import STATE, Clusters, pixel_encoder


@pytest.fixture(scope="module")
def augment():
    weak = load_config("quickstart").data.augment.to_dict()
    return {**weak, "resize_first": 0, "brightness": 0.4, "flip": 0.0}


def scaled(variables, image):
    pooled = image.reshape(len(image), -1).astype("float32") / 40
    return {"pooled": pooled, "embedding": pooled}


def sources(many=False):
    return dict(source=Clusters(60, 5, 1, many), train_source=Clusters(83, 5, 2, many))


@pytest.mark.parametrize("many", [False, True])
def test_it_learns_with_one_label_and_with_several(augment, many):
    encoder = pixel_encoder(augment=augment, image=scaled)
    probe = ReleasedProbe(encoder, **sources(many), epochs=60, learning_rate=0.03)
    values = dict(probe.run(STATE))
    assert values["macro_auc"] > 0.85
    assert (
        values["mean_average_precision"] > 2 * values["chance/mean_average_precision"]
    )
    assert values == dict(probe.run(STATE))


def test_training_equals_a_plain_loop():
    """Every image in every epoch, the rest of the last batch too."""
    own = sources()
    encoder = pixel_encoder(image=scaled)
    probe = ReleasedProbe(encoder, **own, epochs=3, learning_rate=0.01, augment=False)
    trained = probe._train(STATE)
    train = own["train_source"]
    features = encoder.images(STATE, train, 64)["pooled"]
    members = np.eye(5, dtype=np.float32)[[record["label"] for record in train]]
    optimizer = optax.adamw(0.01, weight_decay=0.0)
    head = new_head(12, 5, 0)
    moments = optimizer.init(head)
    rows_seen = []
    for epoch in range(3):
        order = epoch_order(83, 0, epoch)
        for rows in np.split(order, range(32, 83, 32)):
            loss = lambda h: sigmoid_loss(  # noqa: E731
                head_logits(h, features[rows]), members[rows], jnp.ones(len(rows)))  # noqa: B023  # fmt: skip
            updates, moments = optimizer.update(jax.grad(loss)(head), moments, head)
            head = optax.apply_updates(head, updates)
            rows_seen += list(rows)
    assert np.bincount(rows_seen).tolist() == [3] * 83
    for key in head:
        np.testing.assert_allclose(trained[key], head[key], atol=1e-5)


def test_scores_do_not_depend_on_devices_or_batch_size(augment):
    options = dict(epochs=5, learning_rate=0.03)
    encoders = pixel_encoder(8, augment, scaled), pixel_encoder(1, augment, scaled)
    eight, one = (
        dict(ReleasedProbe(e, **sources(), batch_size=b, **options).run(STATE))
        for e, b in zip(encoders, (16, 7), strict=True)
    )
    assert eight == pytest.approx(one, abs=1e-6)


def test_wrong_numbers():
    encoder = pixel_encoder()
    with pytest.raises(ClipinError, match="set augment=False"):
        ReleasedProbe(encoder, **sources())
    with pytest.raises(ClipinError, match="epochs and train_batch_size"):
        ReleasedProbe(encoder, **sources(), augment=False, epochs=0)
