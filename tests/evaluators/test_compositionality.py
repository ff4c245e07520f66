"""SugarCrepe, Winoground and MMVP-VLM, in tiny folders, against slow loops."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.compositionality import Compositionality
from clipin_jax.inference.encode_fns import PredictionFns
from clipin_jax.inference.encoder import Encoder
from tests.support.in_memory import function_encoder

SIZE, WIDTH = 8, 5
RNG = np.random.default_rng(0)


def unit(*shape):
    x = RNG.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


IMAGE, TEXT = unit(256, WIDTH), unit(256, WIDTH)  # by brightness, by number
STATE = SimpleNamespace(
    variables={"image": jnp.asarray(IMAGE), "text": jnp.asarray(TEXT)}
)


def encoder_on(devices: int) -> Encoder:
    def image(variables, image):
        return {"embedding": variables["image"][image[:, 0, 0, 0].astype(jnp.int32)]}

    def text(variables, ids):
        return {"embedding": variables["text"][ids[:, 0]]}

    def projection(variables, image):
        return {"embedding": variables["image"][image[:, 1, 1, 1].astype(jnp.int32)]}

    def prediction(context_length):
        assert context_length == 1
        return PredictionFns(projection, text)

    return function_encoder(
        image=image, text=text, prediction=prediction, devices=devices
    )


@pytest.fixture(scope="module", params=[1, 8])
def encoder(request):
    return encoder_on(request.param)


def cosine(image: int, text: int) -> float:
    return float(IMAGE[image] @ TEXT[text])


def paint(path, value: int, alpha: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixel = (value,) * 3 + (() if alpha is None else (alpha,))
    Image.new("RGB" if alpha is None else "RGBA", (SIZE, SIZE), pixel).save(path)


def sugarcrepe(folder, sizes: dict[str, int]) -> dict[str, list[tuple[int, int, int]]]:
    """Subsets share images, as those of COCO do."""
    trials = {}
    for name, size in sizes.items():
        trials[name] = [tuple(RNG.integers(20, size=3).tolist()) for _ in range(size)]
        entries = {
            str(n): {
                "filename": f"{i:012}.png",
                "caption": f"good {good}",
                "negative_caption": f"bad {bad}",
            }
            for n, (i, good, bad) in enumerate(trials[name])
        }
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(entries))
    for value in range(20):
        paint(folder / "val2017" / f"{value:012}.png", value)
    return trials


def test_sugarcrepe_is_one_accuracy_a_subset_and_their_mean(tmp_path, encoder):
    trials = sugarcrepe(tmp_path, {"add_att": 30, "swap_obj": 11})
    evaluator = Compositionality(
        encoder, format="sugarcrepe", folder=str(tmp_path), batch_size=8
    )
    values = dict(evaluator.run(STATE))
    expected = {
        name: np.mean([cosine(i, good) > cosine(i, bad) for i, good, bad in each])
        for name, each in trials.items()
    }
    # Some captions are their own negative: a tie, which is a miss.
    assert any(good == bad for each in trials.values() for _, good, bad in each)
    for name, value in expected.items():
        assert values[f"accuracy/{name}"] == pytest.approx(value, abs=1e-12)
    assert values["accuracy"] == pytest.approx(
        np.mean(list(expected.values())), abs=1e-12
    )
    assert values["chance/accuracy"] == values["chance/accuracy/add_att"] == 0.5
    assert len(evaluator.source) <= 20  # each image is read once


def winoground(folder, number: int) -> list[tuple[int, int, int, int]]:
    trials = [
        (2 * n, 2 * n + 1, *RNG.integers(40, size=2).tolist()) for n in range(number)
    ]
    lines = []
    for n, (i0, i1, t0, t1) in enumerate(trials):
        names = [f"ex_{n}_img_{k}" for k in range(2)]
        lines.append(
            json.dumps(
                {
                    "image_0": names[0], "image_1": names[1],
                    "caption_0": f"one {t0}", "caption_1": f"other {t1}",
                    "id": n, "tag": "Noun", "collapsed_tag": "Object",
                }
            )
        )  # fmt: skip
        for name, value in zip(names, (i0, i1), strict=True):
            paint(folder / "images" / f"{name}.png", value, alpha=255)
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return trials


def test_winoground_is_three_scores(tmp_path, encoder):
    trials = winoground(tmp_path, 60)
    evaluator = Compositionality(
        encoder, format="winoground", folder=str(tmp_path), batch_size=24
    )
    values = dict(evaluator.run(STATE))
    text, image = [], []
    for i0, i1, t0, t1 in trials:
        s = {(i, t): cosine(i, t) for i in (i0, i1) for t in (t0, t1)}
        same = t0 == t1
        text.append(not same and s[i0, t0] > s[i0, t1] and s[i1, t1] > s[i1, t0])
        image.append(s[i0, t0] > s[i1, t0] and s[i1, t1] > s[i0, t1])
    expected = {
        "text_score": np.mean(text),
        "image_score": np.mean(image),
        "group_score": np.mean(np.logical_and(text, image)),
    }
    assert (
        0 < expected["group_score"] < expected["text_score"] != expected["image_score"]
    )
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12)
    chances = [values[f"chance/{name}"] for name in expected]
    assert chances == pytest.approx([0.25, 0.25, 1 / 6])


def test_similarity_prediction_uses_the_target(tmp_path, encoder):
    trials = sugarcrepe(tmp_path, {"add_att": 60})["add_att"]
    target = unit(256, WIDTH)
    state = SimpleNamespace(
        variables=STATE.variables, target_variables={"image": jnp.asarray(target)}
    )
    evaluator = Compositionality(
        encoder, format="sugarcrepe", folder=str(tmp_path), similarity="prediction"
    )
    expected = [
        target[i] @ TEXT[good] > target[i] @ TEXT[bad] for i, good, bad in trials
    ]
    values = dict(evaluator.run(state))
    assert values["accuracy"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert np.mean(expected) != np.mean(
        [cosine(i, g) > cosine(i, b) for i, g, b in trials]
    )


def test_transparent_pixels_are_white(tmp_path, encoder):
    winoground(tmp_path, 1)
    for k in range(2):
        paint(tmp_path / "images" / f"ex_0_img_{k}.png", 7, alpha=0)
    evaluator = Compositionality(encoder, format="winoground", folder=str(tmp_path))
    images = encoder.comparison("contrastive").images(STATE, evaluator.source, 8)
    np.testing.assert_array_equal(images, IMAGE[[255, 255]])


def mmvp(folder, patterns: dict[str, int]) -> dict[str, list[int]]:
    """Texts of a pair have the numbers of its questions; returns the odd questions."""
    lines, pairs, number = ["Question ID,Type,Statement"], {}, 1
    for pattern, size in patterns.items():
        pairs[pattern] = list(range(number, number + 2 * size, 2))
        for question in range(number, number + 2 * size):
            lines.append(f'{question},{pattern},"a thing, {question}"')
            paint(folder / "MLLM_VLM Images" / pattern / f"{question}.jpg", question)
        number += 2 * size
    (folder / "Questions.csv").write_text("\n".join(lines) + "\n")
    return pairs


@pytest.fixture
def read_brightness():
    """Reads back the brightness of a JPEG, which may differ by one."""
    return lambda path: int(np.asarray(Image.open(path))[0, 0, 0])


def test_mmvp_averages_pair_accuracy_over_patterns(tmp_path, encoder, read_brightness):
    pairs = mmvp(tmp_path, {"Color and Appearance": 15, "Texts": 4})
    evaluator = Compositionality(
        encoder, format="mmvp", folder=str(tmp_path), batch_size=16
    )
    values = dict(evaluator.run(STATE))
    assert evaluator._texts[0] == "a photo of a thing, 1"
    expected = {}
    for pattern, questions in pairs.items():
        folder, right = tmp_path / "MLLM_VLM Images" / pattern, []
        for q in questions:
            first, second = (read_brightness(folder / f"{n}.jpg") for n in (q, q + 1))
            right.append(
                cosine(first, q) > cosine(second, q)
                and cosine(second, q + 1) > cosine(first, q + 1)
            )
        expected[pattern] = np.mean(right)
        assert values[f"accuracy/{pattern}"] == pytest.approx(expected[pattern])
    assert values["accuracy"] == pytest.approx(np.mean(list(expected.values())))
    assert values["chance/accuracy"] == 0.25


@pytest.mark.parametrize("format", ["sugarcrepe", "winoground", "mmvp"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_collapsed_model_scores_zero(tmp_path, encoder, format, value):
    sugarcrepe(tmp_path, {"add_obj": 5})
    winoground(tmp_path, 5)
    mmvp(tmp_path, {"Texts": 5})
    evaluator = Compositionality(encoder, format=format, folder=str(tmp_path))
    one = {
        k: jnp.broadcast_to(x[:1] + value, x.shape) for k, x in STATE.variables.items()
    }
    values = dict(evaluator.run(SimpleNamespace(variables=one)))
    assert all(v == 0 for k, v in values.items() if not k.startswith("chance/"))
    assert all(type(v) is float for v in values.values())


def edit(path, change) -> None:
    path.write_text(change(path.read_text()))


WRONG = {
    "sugarcrepe": [
        (lambda f: (f / "add_obj.json").unlink(), "no JSON file"),
        (lambda f: (f / "add_obj.json").write_text(""), "add_obj.json is empty"),
        (lambda f: (f / "add_obj.json").write_text("{}"), "has no JSON object"),
        (lambda f: (f / "add_obj.json").write_text("[1]"), "has no JSON object"),
        (lambda f: (f / "add_obj.json").write_text("{"), "is not valid JSON"),
        (
            lambda f: edit(
                f / "add_obj.json", lambda t: t.replace("negative_", "neg_")
            ),
            r"add_obj.json, entry '0' has no valid 'negative_caption'",
        ),
        (
            lambda f: edit(f / "add_obj.json", lambda t: t.replace(".png", ".gif")),
            "no image 0000000000...gif in",
        ),
    ],
    "winoground": [
        (lambda f: (f / "examples.jsonl").unlink(), "cannot read .*examples.jsonl"),
        (lambda f: (f / "examples.jsonl").write_text("\n"), "is empty"),
        (lambda f: (f / "examples.jsonl").write_text("{\n"), "line 1 is not valid"),
        (
            lambda f: edit(f / "examples.jsonl", lambda t: t.replace("caption_1", "c")),
            "line 1 has no valid 'caption_1'",
        ),
        (
            lambda f: (f / "images" / "ex_2_img_1.png").unlink(),
            "line 3: no image ex_2_img_1 in",
        ),
    ],
    "mmvp": [
        (lambda f: (f / "Questions.csv").unlink(), "no file .*Questions.csv"),
        (
            lambda f: edit(f / "Questions.csv", lambda t: t.replace("Type", "Kind")),
            "no column 'Type'",
        ),
        (
            lambda f: edit(f / "Questions.csv", lambda t: t.replace("\n4,", "\nx,")),
            "Question ID 'x' is no number",
        ),
        (
            lambda f: edit(f / "Questions.csv", lambda t: t[: t.index("\n4,") + 1]),
            "a question has no partner",
        ),
        (
            lambda f: (f / "MLLM_VLM Images" / "Texts" / "2.jpg").unlink(),
            "question 2: no image Texts/2 in",
        ),
    ],
}


@pytest.mark.parametrize(
    "format, number", [(f, n) for f, cases in WRONG.items() for n in range(len(cases))]
)
def test_wrong_folders(tmp_path, format, number):
    spoil, message = WRONG[format][number]
    sugarcrepe(tmp_path, {"add_obj": 5})
    winoground(tmp_path, 5)
    mmvp(tmp_path, {"Texts": 2})
    spoil(tmp_path)
    with pytest.raises(ClipinError, match=message):
        Compositionality(encoder_on(1), format=format, folder=str(tmp_path))


def test_wrong_arguments(tmp_path):
    encoder = encoder_on(1)
    with pytest.raises(ClipinError, match="format is 'winogrand'.*'winoground'"):
        Compositionality(encoder, format="winogrand", folder=str(tmp_path))
    with pytest.raises(ClipinError, match="does not exist; set `images`"):
        Compositionality(encoder, format="winoground", folder=str(tmp_path))
