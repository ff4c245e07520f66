"""A linear probe of the text tower, against scikit-learn at the same strength."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.text_probe import TextProbe
from clipin_jax.inference.encoder import Encoder
from tests.support.in_memory import function_encoder

RNG = np.random.default_rng(0)
CLASSES = ("LOC", "HUM", "ENTY")  # on purpose in no order
LABEL = RNG.integers(3, size=400)
POOLED = (RNG.normal(size=(400, 8)) + 1.2 * np.eye(3, 8)[LABEL]).astype(np.float32)
STATE = SimpleNamespace(variables={"pooled": jnp.asarray(POOLED)})


def encoder_on(devices: int) -> Encoder:
    def text(variables, ids):
        pooled = variables["pooled"][ids[:, 0]]
        return {"pooled": pooled, "embedding": jnp.zeros_like(pooled)}

    return function_encoder(image=None, text=text, devices=devices)


@pytest.fixture(scope="module")
def encoder():
    return encoder_on(8)


def write(path, numbers, labels=LABEL) -> str:
    rows = [f'{CLASSES[labels[n]]}\tfine\tis it "{n}" or, {n}' for n in numbers]
    path.write_text("\n".join(["label\tfine_label\ttext", *rows]) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path):
    return {
        "train_file": write(tmp_path / "train.tsv", range(300)),
        "file": write(tmp_path / "test.tsv", range(300, 400)),
    }


@pytest.mark.parametrize("devices, batch_size", [(1, 64), (8, 7)])
def test_scores_equal_logistic_regression_of_pooled_features(
    files, devices, batch_size
):
    probe = TextProbe(
        encoder_on(devices), **files, strengths=(1e-2,), batch_size=batch_size
    )
    values = dict(probe.run(STATE))
    train, test = POOLED[:300], POOLED[300:]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    reference = LogisticRegression(C=1 / (300 * 1e-2), max_iter=1000, tol=1e-8)
    reference.fit((train - mean) / spread, LABEL[:300])
    accuracy = reference.score((test - mean) / spread, LABEL[300:])
    assert values["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert 0.5 < accuracy < 1
    assert values["chance/accuracy"] == pytest.approx(1 / 3)
    assert values["strength"] == pytest.approx(1e-2)


def test_label_indices_are_the_same_in_all_files(tmp_path, encoder, files):
    """The scored file may lack a class, and have its rows in another order."""
    two = [n for n in range(399, 299, -1) if LABEL[n] != 1]
    files["file"] = write(tmp_path / "two.tsv", two)
    values = dict(TextProbe(encoder, **files, strengths=(1e-2,)).run(STATE))
    assert values["accuracy"] > 0.5
    assert values["classes_left_out"] == 1


def test_the_strength_is_chosen_on_a_file_of_its_own(tmp_path, encoder, files):
    wrong = (LABEL + 1) % 3  # labels of which nothing can be learned
    val = write(tmp_path / "val.tsv", range(200, 300), wrong)
    own = dict(TextProbe(encoder, **files, strengths=(1e-3, 10.0)).run(STATE))
    misled = TextProbe(encoder, **files, val_file=val, strengths=(1e-3, 10.0))
    assert own["strength"] == pytest.approx(1e-3)
    assert dict(misled.run(STATE))["strength"] == pytest.approx(10.0)


def test_a_diverged_tower_scores_zero(encoder, files):
    state = SimpleNamespace(variables={"pooled": STATE.variables["pooled"] * jnp.nan})
    assert dict(TextProbe(encoder, **files).run(state))["accuracy"] == 0


def test_wrong_files(tmp_path, encoder, files):
    other = tmp_path / "other.tsv"
    other.write_text("label\ttext\nLOC\ta 1\nPLACE\ta 2\n")
    with pytest.raises(
        ClipinError, match="other.tsv, row 2: the label 'PLACE' is none"
    ):
        TextProbe(encoder, **files | {"file": str(other)})
    other.write_text("label\ttext\nLOC\ta 1\nLOC\ta 2\n")
    with pytest.raises(ClipinError, match="all labels in .*other.tsv are 'LOC'"):
        TextProbe(encoder, **files | {"train_file": str(other)})
    other.write_text("label\ttxt\nLOC\ta 1\n")
    with pytest.raises(ClipinError, match="no column 'text'.*did you mean 'txt'"):
        TextProbe(encoder, **files | {"file": str(other)})
    with pytest.raises(ClipinError, match="no file"):
        TextProbe(encoder, **files | {"file": str(tmp_path / "absent.tsv")})
    with pytest.raises(ClipinError, match="must name a text and a label"):
        TextProbe(encoder, **files, columns=("text",))


@pytest.mark.parametrize("name, classes", [("sst2", 2), ("subj", 2), ("trec", 6)])
def test_real_files_are_read_whole(data_folder, encoder, name, classes):
    folder = data_folder / "text"
    probe = TextProbe(
        encoder,
        file=str(folder / f"{name}_val.tsv"),
        train_file=str(folder / f"{name}_train.tsv"),
    )
    lines = (folder / f"{name}_val.tsv").read_text(encoding="utf-8").split("\n")
    assert len(probe.texts) == len(lines) - 2
    assert len(probe.classes) == classes
