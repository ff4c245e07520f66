import jax
import numpy as np
import pytest
from PIL import Image

from clipin_jax.config import load_config
from clipin_jax.core import sharding
from clipin_jax.data.sources.scenes import Scenes
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import EVALUATORS
from clipin_jax.evaluators.localization import Localization, score_map
from clipin_jax.inference.build import make_encoder, open_run
from clipin_jax.inference.saliency import Maps, enlarge
from clipin_jax.runs.build import build_experiment
from clipin_jax.training.loop import train
from tests.support.in_memory import STATE, Images, function_encoder
from tests.support.tiny import tiny_config

SIZE, GRID = 16, 4


class Boxes(Images):
    """Images by their boxes; `data` is the bytes of a file in place of them."""

    data = None

    def __getitem__(self, index):
        blank = np.zeros((SIZE, SIZE, 3), np.uint8)
        return {"image": blank if self.data is None else self.data}

    def annotations(self, index):
        boxes = list.__getitem__(self, index)
        return {"captions": ("",)} if boxes is None else {"boxes": boxes}


def encoder(maps):
    return function_encoder(
        image=None, text=None, explainer=lambda *_, **__: maps, image_size=(SIZE, SIZE)
    )


def at_patch(variables, target_variables, image, text):
    """All of the map on the patch that the text names."""
    row = jax.nn.one_hot(text[:, 0], GRID * GRID)
    return Maps(row.reshape(-1, GRID, GRID), None)


def patch_box(patch):
    row, column = divmod(patch, GRID)
    return f"patch {patch}", 4 * column, 4 * row, 4, 4


SOURCE = Boxes([[patch_box(5), patch_box(10)], [patch_box(0)], [patch_box(15)]])


def test_a_map_on_the_object_is_perfect_and_one_beside_it_scores_zero():
    values = dict(Localization(encoder(at_patch), source=SOURCE).run(STATE))
    assert values["pointing_game"] == 1 and values["named_object"] == 1
    assert values["energy"] > 0.6  # splines run over the edge of a patch
    assert values["others/pointing_game"] == 0 and values["empty"] == 0
    assert values["chance/energy"] == values["chance/pointing_game"] == 1 / 16
    assert values["chance/named_object"] == 0.5

    def beside(variables, target_variables, image, text):
        return at_patch(variables, target_variables, image, 15 - text)

    values = dict(Localization(encoder(beside), source=SOURCE).run(STATE))
    assert values["pointing_game"] == 0 and values["energy"] < 0.01
    # Patches 5 and 10 change places: the other object of the image.
    assert values["named_object"] == 0 and values["others/pointing_game"] == 1


def test_scores_by_hand():
    """A map as fine as the mask is not changed by enlarging it."""
    patches = np.array([[4.0, 1.0], [2.0, 1.0]])
    np.testing.assert_allclose(enlarge(patches, (2, 2)), patches, atol=1e-12)
    masks = np.array([[[1, 0], [0, 0]], [[0, 0], [1, 1]]], bool)
    named, other = score_map(patches, masks, 0), score_map(patches, masks, 1)
    outside = 4 / 3
    expected = (0.5, 1, (4 - outside) / (4 + outside), 1, 0, 0)
    np.testing.assert_allclose(named, expected, atol=1e-12)
    np.testing.assert_allclose(other, (3 / 8, 0, (1.5 - 2.5) / 4, 0, 1, 0), atol=1e-12)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_map_gets_the_worst_scores(value):
    mask = np.eye(4, dtype=bool)[None]
    assert score_map(np.full((4, 4), value), mask, 0) == (0, 0, -1, 0, 0, 1)


def test_a_constant_map_points_nowhere():
    middle = np.zeros((2, 9, 9), bool)
    middle[0, 3:6, 3:6] = middle[1, 7:, 7:] = True
    scores = score_map(np.ones((3, 3)), middle, 0)
    assert scores[1] == scores[3] == 0


def test_boxes_of_files_of_any_size(tmp_path):
    """A box is in pixels of the file; the mask has the file's size."""
    path = tmp_path / "wide.png"
    Image.new("RGB", (20, 10)).save(path)
    source = Boxes([[("patch 0", 5, 2, 10, 4)]])
    source.data = path.read_bytes()
    evaluator = Localization(encoder(at_patch), source=source)
    mask = evaluator._objects.masks(0)[0][0]
    assert mask.shape == (10, 20) and mask.sum() == 40
    assert mask[2:6, 5:15].all()


def test_objects_that_fill_their_image_are_counted_and_left_out():
    boxes = [("patch 0", 0, 0, 4, 4), ("patch 1", 0, 0, 99, 99)]
    evaluator = Localization(encoder(at_patch), source=Boxes([boxes]))
    assert evaluator._objects.names == ["patch 0"] and evaluator._objects.left_out == 1


@pytest.mark.parametrize(
    "source, arguments, message",
    [
        (SOURCE, dict(template="a thing"), "no {}"),
        (Boxes([None]), {}, "has no boxes"),
        (Boxes([[("patch 1", 40, 40, 4, 4)]]), {}, "covers no pixel"),
        (Boxes([[("patch 1", 0, 0, 99, 99)]]), {}, "has no object"),
        (Boxes([[]]), {}, "has no object"),
    ],
)
def test_wrong_input(source, arguments, message):
    with pytest.raises(ClipinError, match=message):
        Localization(encoder(at_patch), source=source, **arguments)


@pytest.fixture(scope="module")
def tiny():
    """An untrained model, and scenes with several objects."""
    config = tiny_config("model.text.vocab_size=49408", "model.text.context_length=16")
    run = build_experiment(config, devices=jax.devices()[:1])
    state = jax.device_get(run.init_state())
    source = Scenes("val", length=60, size=48, objects=(2, 3))
    return config, run.learner, state, source


def figures(tiny, devices, batch_size, method="contrastive"):
    config, learner, state, source = tiny
    mesh = sharding.make_mesh(data=-1, fsdp=1, devices=devices)
    encoder = make_encoder(config, learner, mesh)
    evaluator = Localization(
        encoder, source=source, batch_size=batch_size, method=method
    )
    return dict(evaluator.run(state))


@pytest.mark.slow
def test_an_untrained_model_is_at_chance(tiny):
    """Its maps do not depend on the text, so they prefer no object."""
    values = figures(tiny, jax.devices()[:1], 64)
    count = sum(len(tiny[-1].names(i)) for i in range(len(tiny[-1])))
    chance = values["chance/named_object"]
    bound = 3 * np.sqrt(chance * (1 - chance) / count)
    assert abs(values["named_object"] - chance) < bound
    point = values["others/pointing_game"]
    bound = 3 * np.sqrt(2 * max(point, 0.1) / count)
    assert abs(values["pointing_game"] - point) < bound


def test_scores_do_not_depend_on_devices_or_batch_size(tiny):
    one = figures(tiny, jax.devices()[:1], 50)
    eight = figures(tiny, jax.devices(), 64)
    assert one.keys() == eight.keys()
    for name, value in one.items():
        assert eight[name] == pytest.approx(value, abs=1e-6), name


def test_it_is_found_by_its_name():
    assert EVALUATORS["localization"] is Localization


@pytest.fixture
def optimized_programs():
    """Compiles as users do: a training of minutes repays it."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized_programs")
def test_a_trained_model_points_at_what_the_text_names(tmp_path):
    """Minutes: python -m pytest -m slow tests/evaluators/test_localization.py."""
    config = load_config("quickstart")
    with config.unlocked():
        config.evals = {}
    assert train(config, tmp_path) == 0
    run = open_run(tmp_path)
    state, _ = run.restore()
    source = Scenes("val", length=200, size=64, objects=(2, 3))
    values = dict(Localization(run.encoder, source=source).run(state))
    assert values["pointing_game"] > 3 * values["chance/pointing_game"]
    assert values["pointing_game"] > 2 * values["others/pointing_game"]
    assert values["named_object"] > values["chance/named_object"] + 0.15
    assert values["energy"] > 2 * values["chance/energy"]
