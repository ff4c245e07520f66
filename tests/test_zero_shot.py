from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from clipin_jax import sharding
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import clip_benchmark_record, make_evaluators
from clipin_jax.evaluators.encode import Encoder
from clipin_jax.evaluators.zero_shot import ZeroShot

SIZE = 4
CLASSES = tuple(f"class_{i}" for i in range(7))
STATE = SimpleNamespace(variables=())


class Pictures(list):
    classes = CLASSES
    fingerprint = "pictures"

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return "in memory"


def pictures(labels) -> Pictures:
    def record(label):
        code = label if np.ndim(label) == 0 else (*label, 0)[0]
        image = np.full((SIZE, SIZE, 3), code, np.uint8)
        return {"image": image, "captions": ("",), "label": label}

    return Pictures(record(label) for label in labels)


def tokens(texts):
    """A text is its length and its last character's code."""
    return np.asarray([[len(t), ord(t[-1])] for t in texts], np.int32)


def encode_image(variables, image):
    row = jax.nn.one_hot(image[:, 0, 0, 0], 8)
    return {"pooled": row, "embedding": row}


def encode_text(variables, ids):
    """The class, bent towards a common direction the more the longer the prompt."""
    row = jax.nn.one_hot(ids[:, 1] - ord("0"), 8)
    row = row.at[:, 7].set((ids[:, 0] - 7) / 4)
    row = row / jnp.linalg.norm(row, axis=1, keepdims=True)
    return {"pooled": row, "embedding": row}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(
        SimpleNamespace(image=encode_image, text=encode_text),
        mesh=sharding.make_mesh(data=-1, fsdp=1),
        tokenizer=tokens,
        image_size=(SIZE, SIZE),
        interpolation="bicubic",
    )


def test_prompts_are_normalised_averaged_normalised(encoder):
    source = pictures([0, 1, 2])
    templates = ("{}", "a {}", "a fine picture of {}")
    evaluator = ZeroShot(encoder, source=source, batch_size=8, templates=templates)
    classifier = evaluator._classifier(())
    expected = []
    for name in CLASSES:
        prompts = [t.format(name) for t in templates]
        rows = np.asarray(encode_text((), tokens(prompts))["embedding"], np.float64)
        mean = rows.mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(classifier, expected, atol=1e-6)


def test_single_label(encoder):
    labels = [int(i) for i in np.random.default_rng(0).integers(7, size=30)]
    values = dict(ZeroShot(encoder, source=pictures(labels), batch_size=8).run(STATE))
    for name in ("accuracy", "top5_accuracy", "mean_per_class_recall", "macro_auc"):
        assert values[name] == 1, name
    assert values["chance/accuracy"] == pytest.approx(1 / 7)
    assert values["macro_auc_cosine"] == 1
    assert all(type(v) is float for v in values.values())


def test_given_classes_replace_those_of_the_source(encoder):
    source = pictures([0, 1, 2, 0])
    classes = ("thing 2", "thing 1", "thing 0")
    values = dict(
        ZeroShot(encoder, source=source, batch_size=8, classes=classes).run(STATE)
    )
    assert values["accuracy"] == 0.25
    assert "top5_accuracy" not in values


def test_multi_label(encoder):
    source = pictures([[0], [1, 2], [], [3], [4], [5, 0]])
    values = dict(ZeroShot(encoder, source=source, batch_size=8).run(STATE))
    # Of two labels only the one that shows is surely found.
    assert values["accuracy"] == pytest.approx((1 + 0.5 + 1 + 1 + 0.5) / 5)
    assert values["classes_left_out"] == 1
    assert values["chance/accuracy"] == pytest.approx(7 / 5 / 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"templates": ("a photo",)}, r"'a photo' has no \{\}"),
        ({"templates": ()}, "must be a list of prompts"),
        ({"templates": "{}"}, "must be a list of prompts"),
        ({"source": []}, "no class names"),
        ({"source": Pictures([{"image": 0}])}, "record 0, in memory, has no label"),
        (
            {"source": pictures([1, 7])},
            "record 1, in memory, has label 7, .* 7 classes",
        ),
    ],
)
def test_wrong_input(encoder, arguments, message):
    arguments = {"source": pictures([0]), "batch_size": 8, **arguments}
    if arguments["source"] == []:
        arguments["source"] = SimpleNamespace(classes=())
    with pytest.raises(ClipinError, match=message):
        ZeroShot(encoder, **arguments)


def config_of(**evals) -> ConfigDict:
    data = {
        "image_size": (SIZE, SIZE),
        "context_length": 16,
        "tokenizer": {"name": "bpe"},
        "caption_cleaning": "",
        "caption_words": 0,
        "long_captions": "cut",
        "augment": {"interpolation": "bicubic"},
    }
    return ConfigDict({"data": data, "evals": evals})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "retreival"}, r"evals\.x\.type .*did you mean 'retrieval'"),
        (
            {"type": "zero_shot", "source": {}, "template": ("{}",)},
            r"evals\.x\.template .*did you mean 'templates'",
        ),
        ({"type": "zero_shot", "every_steps": 5}, r"evals\.x\.source is missing"),
        ({"type": "retrieval", "batch_size": 0}, r"evals\.x\.batch_size is 0"),
        ({"type": "retrieval", "source": "coco"}, r"evals\.x: source must be a dict"),
    ],
)
def test_wrong_config(entry, message):
    mesh = sharding.make_mesh(data=-1, fsdp=1)
    encode = SimpleNamespace(image=encode_image, text=encode_text)
    with pytest.raises(ClipinError, match=message):
        make_evaluators(config_of(x=entry), encode, mesh)


def test_clip_benchmark_record(encoder):
    evaluator = ZeroShot(encoder, source=pictures([0]))
    values = {"accuracy": 0.5, "top5_accuracy": float("nan"), "macro_auc": 0.6}
    record = clip_benchmark_record(
        evaluator, values, dataset="d", model="m", pretrained="p"
    )
    assert record["task"] == "zeroshot_classification"
    assert record["metrics"] == {"acc1": 0.5, "acc5": None}
    assert record["language"] == "en"
