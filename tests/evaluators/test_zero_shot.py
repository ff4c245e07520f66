import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.clip_benchmark import clip_benchmark_record
from clipin_jax.evaluators.zero_shot import ZeroShot, warn_once
from clipin_jax.inference.class_vectors import class_vectors
from clipin_jax.inference.encoder import Comparison
from tests.support.in_memory import STATE, Images, function_encoder

SIZE = 4
CLASSES = tuple(f"class_{i}" for i in range(7))


def images(labels) -> Images:
    def record(label):
        code = label if np.ndim(label) == 0 else (*label, 0)[0]
        image = np.full((SIZE, SIZE, 3), code, np.uint8)
        return {"image": image, "captions": ("",), "label": label}

    return Images(map(record, labels), CLASSES)


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
    return function_encoder(
        image=encode_image, text=encode_text, tokenizer=tokens, image_size=(SIZE, SIZE)
    )


def test_prompts_are_normalized_averaged_normalized(encoder):
    source = images([0, 1, 2])
    templates = ("{}", "a {}", "a fine picture of {}")
    evaluator = ZeroShot(encoder, source=source, batch_size=8, templates=templates)
    classifier, which = class_vectors(
        evaluator._prompts, lambda texts: evaluator._comparison.texts(STATE, texts, 8)
    )
    assert which.tolist() == list(range(7))
    expected = []
    for name in CLASSES:
        prompts = [t.format(name) for t in templates]
        rows = np.asarray(encode_text((), tokens(prompts))["embedding"], np.float64)
        mean = rows.mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(classifier, expected, atol=1e-6)


def test_single_label(encoder):
    labels = [int(i) for i in np.random.default_rng(0).integers(7, size=30)]
    values = dict(ZeroShot(encoder, source=images(labels), batch_size=8).run(STATE))
    for name in ("accuracy", "top5_accuracy", "mean_per_class_recall", "macro_auc"):
        assert values[name] == 1, name
    assert values["chance/accuracy"] == pytest.approx(1 / 7)
    assert values["macro_auc_cosine"] == 1
    assert all(type(v) is float for v in values.values())


def test_given_classes_replace_those_of_the_source(encoder):
    source = images([0, 1, 2, 0])
    source.classes = ("apple", "pear", "plum")
    classes = ("thing 2", "thing 1", "thing 0")
    values = dict(
        ZeroShot(encoder, source=source, batch_size=8, classes=classes).run(STATE)
    )
    assert values["accuracy"] == 0.25
    assert "top5_accuracy" not in values


def test_scores_of_the_softmax_and_of_the_cosines_are_scikit_learns(encoder):
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=(40, 3)).astype(bool)
    cosine = rng.normal(size=(40, 3)).astype(np.float32) / 50
    source = images([list(np.flatnonzero(row)) for row in labels])
    source.classes = ("a", "b", "c")
    evaluator = ZeroShot(encoder, source=source)
    evaluator._comparison = Comparison(
        lambda state, source, size: cosine,
        lambda state, texts, size: np.eye(3, dtype=np.float32),
    )
    values = dict(evaluator.run(STATE))
    scored = {"": softmax(100 * cosine.astype(np.float64), axis=1), "_cosine": cosine}
    for suffix, given in scored.items():
        auc = roc_auc_score(labels, given, average="macro")
        precision = average_precision_score(labels, given, average="macro")
        assert values[f"macro_auc{suffix}"] == pytest.approx(auc, abs=1e-12)
        value = values[f"mean_average_precision{suffix}"]
        assert value == pytest.approx(precision, abs=1e-12)
    # Classes are coupled by the softmax, so the two really differ.
    assert abs(values["macro_auc"] - values["macro_auc_cosine"]) > 1e-3


def test_an_empty_class_is_warned_of_and_left_out_of_macro_figures(encoder, caplog):
    warn_once.cache_clear()
    values = dict(ZeroShot(encoder, source=images([0, 1, 1, 3])).run(STATE))
    assert (
        "4 of 7 classes (class_2, class_4, class_5, ...) have no image" in caplog.text
    )
    assert values["classes_left_out"] == 4
    assert values["macro_auc"] == 1 and values["mean_per_class_recall"] == 1


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_names_and_templates_are_read_from_files_of_clip_benchmark(encoder, tmp_path):
    names = [f"thing {i}" for i in range(7)]
    arguments = {
        "names_file": write(tmp_path / "names.json", {"pets": names, "other": ["x"]}),
        "templates_file": write(tmp_path / "t.json", {"pets": ["a {c}", "this {}"]}),
        "dataset": "pets",
    }
    evaluator = ZeroShot(encoder, source=images([0]), **arguments)
    assert evaluator.classes == tuple(names)
    assert evaluator._prompts[3] == ("a thing 3", "this thing 3")
    lists = ZeroShot(
        encoder, source=images([0]), classes=CLASSES, templates=("{c}.",), **arguments
    )
    assert lists._prompts[6] == ("class_6.",)


def test_each_class_may_have_prompts_of_its_own(encoder, tmp_path):
    prompts = {"class_0": ["of class_0"], "class_1": ["a class_1", "class_1"]}
    source = images([0, 1])
    source.classes = CLASSES[:2]
    path = write(tmp_path / "t.json", {"pets": prompts})
    evaluator = ZeroShot(encoder, source=source, templates_file=path)
    assert evaluator._prompts == (("of class_0",), ("a class_1", "class_1"))
    assert dict(evaluator.run(STATE))["accuracy"] == 1
    source.classes = ("class_0", "class 2")
    with pytest.raises(ClipinError, match="no prompts for class 'class 2'"):
        ZeroShot(encoder, source=source, templates_file=path)


def test_names_are_sorted_into_the_order_of_the_labels(encoder, tmp_path):
    names = [f"Class {i}" for i in reversed(range(7))]
    path = write(tmp_path / "names.json", {"pets": names})
    evaluator = ZeroShot(encoder, source=images([0]), names_file=path)
    assert evaluator.classes == tuple(reversed(names))
    with pytest.raises(
        ClipinError, match="class 0 of the source is 'class_0', but tha"
    ):
        ZeroShot(encoder, source=images([0]), classes=names)


def test_classes_of_one_name_tie_and_are_warned_of(encoder, tmp_path, caplog):
    names = ["thing 0", "thing 1", "thing 1"]
    source = images([0, 1, 2])
    source.classes = ()
    with pytest.raises(ClipinError, match="classes 1 and 2 are both 'thing 1'; give"):
        ZeroShot(encoder, source=source, classes=names)
    path = write(tmp_path / "names.json", {"things": names})
    arguments = {"source": source, "names_file": path, "dataset": "things"}
    values = dict(ZeroShot(encoder, **arguments).run(STATE))
    assert "no image of them can be classified right" in caplog.text
    assert values["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("names", "dataset", "message"),
    [
        ({"pets": ["a", "b"], "other": ["a"]}, "pest", "no data set 'pest'.*'pets'"),
        ({"pets": ["a", "b"], "other": ["a"]}, "", "several data sets; set `dataset`"),
        ({"pets": "ab"}, "", "'pets' is no list"),
        ({"pets": ["a", 3]}, "", "3 is no class name"),
        ({"pets": ["a", "b"]}, "", "2 names, but the source has 7 classes"),
        ([1], "", "must hold an object"),
        ("{", "", "is not valid JSON: line 1"),
    ],
)
def test_a_wrong_file_of_names(encoder, tmp_path, names, dataset, message):
    path = write(tmp_path / "names.json", names)
    with pytest.raises(ClipinError, match=message):
        ZeroShot(encoder, source=images([0]), names_file=path, dataset=dataset)
    with pytest.raises(ClipinError, match="cannot be read"):
        ZeroShot(encoder, source=images([0]), names_file=f"{path}.not")


def test_names_and_templates_of_a_known_set(encoder):
    source = images([0, 1])
    source.classes = ()
    evaluator = ZeroShot(encoder, source=source, dataset="cifar10")
    assert evaluator.classes[:2] == ("airplane", "automobile")
    assert evaluator._prompts[0][0] == "a photo of a airplane."
    assert len(evaluator._prompts[0]) == 18
    bare = ZeroShot(encoder, source=source, dataset="cifar10", templates=("{}",))
    assert bare._prompts[9] == ("truck",)
    with pytest.raises(ClipinError, match="cifar10"):
        ZeroShot(encoder, source=source, dataset="cifar11")


def test_multi_label(encoder):
    source = images([[0], [1, 2], [], [3], [4], [5, 0]])
    values = dict(ZeroShot(encoder, source=source, batch_size=8).run(STATE))
    # Of two labels only the one that shows is surely value.
    assert values["accuracy"] == pytest.approx((1 + 0.5 + 1 + 1 + 0.5) / 5)
    assert values["classes_left_out"] == 1
    assert values["chance/accuracy"] == pytest.approx(7 / 5 / 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"templates": ("a photo",)}, r"'a photo' has no \{\}"),
        ({"classes": "ab"}, "must be a list of names"),
        ({"classes": ("a", "b")}, "2 names, but the source has 7 classes"),
        ({"source": SimpleNamespace(classes=("a",))}, "one class alone, 'a'"),
        ({"similarity": "cosine"}, "similarity"),
        ({"templates": "{}"}, "must be a list of prompts"),
        ({"source": []}, "no class names"),
        (
            {"source": Images([{"image": 0}], CLASSES)},
            "record 0, image 0, has no label",
        ),
        (
            {"source": images([1, 7])},
            "record 1, image 1, has label 7, .* 7 classes",
        ),
    ],
)
def test_wrong_input(encoder, arguments, message):
    arguments = {"source": images([0]), "batch_size": 8, **arguments}
    if arguments["source"] == []:
        arguments["source"] = SimpleNamespace(classes=())
    with pytest.raises(ClipinError, match=message):
        ZeroShot(encoder, **arguments)


def test_clip_benchmark_record(encoder):
    evaluator = ZeroShot(encoder, source=images([0]))
    values = {"accuracy": 0.5, "top5_accuracy": float("nan"), "macro_auc": 0.6}
    record = clip_benchmark_record(
        evaluator, values, dataset="d", model="m", pretrained="p"
    )
    assert record["task"] == "zeroshot_classification"
    assert record["metrics"] == {"acc1": 0.5, "acc5": None}
    assert record["language"] == "en"
