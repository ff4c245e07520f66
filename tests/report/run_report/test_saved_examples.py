from types import SimpleNamespace

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.report.run_report import saved_examples
from tests.support.html_pages import EVIL
from tests.support.run_folders import make_report, make_run


class TinyTokenizer:
    """A tokenizer with a vocabulary of three words."""

    start, end = 8, 9
    vocabulary = ("", "a", "red", EVIL)

    def decode(self, ids):
        return " ".join(self.vocabulary[i] for i in ids)


def test_training_pairs(tmp_path):
    run = make_run(tmp_path / "run", steps=1)
    pixels = np.random.default_rng(0).integers(256, size=(10, 16, 24, 3), dtype="uint8")
    text = np.tile(np.array([8, 1, 2, 9, 0], np.int32), (10, 1))
    other = np.tile(np.array([8, 3, 9, 0, 0], np.int32), (10, 1))
    batch = {
        "view1": {"image": pixels, "text": text},
        "view2": {"image": pixels[::-1], "text": other},
        "index": np.arange(10),
    }
    saved_examples.save_pairs(run, batch, TinyTokenizer())
    html, page = make_report(tmp_path, run)
    assert page.count("img") == 16
    assert page.texts.count("a red") == 8
    assert page.texts.count(EVIL) >= 8 and "<script" not in html
    (run / "examples" / "pair3_view2.png").unlink()
    _, page = make_report(tmp_path, run)
    assert page.count("img") == 15 and "missing" in page.texts


class ImageSource(list):
    classes = ()
    fingerprint = "images"

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return "in memory"


def gray_source(count):
    return ImageSource(
        {"image": np.full((200, 100, 3), i, np.uint8), "captions": ("",)}
        for i in range(count)
    )


def test_retrievals(tmp_path):
    run = make_run(tmp_path / "run", steps=1)
    hit = {"caption": "ok", "image": 4, "rank": 1, "score": 0.9}
    missed = {"caption": EVIL, "image": 2, "rank": 7, "score": 0.1}
    shown = [(4, 0.9), (11, 0.25)]
    evaluator = SimpleNamespace(
        source=gray_source(12),
        image_size=(200, 100),
        interpolation="bicubic",
        resize="shortest",
        examples={
            "best": [{**hit, "retrieved": shown}],
            "worst": [{**missed, "retrieved": shown}],
        },
    )
    saved_examples.save_examples(run, "pets", evaluator)
    saved = sorted(p.name for p in (run / "examples").glob("*.png"))
    assert saved == [f"retrieval_pets_{i}.png" for i in (11, 2, 4)]
    html, page = make_report(tmp_path, run)
    assert page.count("img") == 5
    assert page.count("figure", **{"class": "hit"}) == 1
    assert page.count("figure", **{"class": "missed"}) == 1
    assert "rank 7" in page.texts and "<script" not in html


def test_written_captions_of_several_runs_stand_together(tmp_path):
    runs = []
    for name, strategy in (("one", "greedy"), ("two", "beam")):
        run = make_run(tmp_path / name, steps=1, evals={"write": {}})
        written = {
            "decoding": {"strategy": strategy, "max_length": 30, "prompt": ""},
            "captions": [
                {"image": 5, "caption": f"{name} <b>", "references": ["a cat", EVIL]},
                {"image": 9, "caption": "", "references": ["dogs"] * 7},
            ],
        }
        evaluator = SimpleNamespace(
            written=written,
            source=gray_source(12),
            image_size=(200, 100),
            interpolation="bicubic",
            resize="shortest",
        )
        saved_examples.save_examples(run, "write", evaluator)
        runs.append(run)
    saved = sorted(p.name for p in (runs[0] / "examples").glob("*.png"))
    assert saved == ["caption_write_5.png", "caption_write_9.png"]
    html, page = make_report(tmp_path, *runs)
    assert "Written captions" in page.headings
    assert page.count("img") == 2  # an image for both runs
    assert {"one <b>", "two <b>", "(nothing)", "a cat", EVIL} <= set(page.texts)
    assert {"Greedy decoding: max_length 30.", "Beam decoding: max_length 30."} <= set(
        page.texts
    )
    assert "references, 2 more" in page.texts and "<b>" not in html.replace("<b>l", "")
    (runs[1] / "examples" / "captions_write.json").write_text('{"captions": 3}')
    _, page = make_report(tmp_path, *runs)
    assert "captions_write.json of two is damaged" in page.texts


def test_examples_that_cannot_be_written(tmp_path):
    (tmp_path / "examples").write_text("a file where a folder should be")
    view = {"image": np.zeros((1, 4, 4, 3), np.uint8), "text": np.array([[8, 1, 9]])}
    with pytest.raises(ClipinError, match="cannot write examples to"):
        saved_examples.save_pairs(tmp_path, {"view1": view}, TinyTokenizer())


def test_an_evaluator_without_examples_leaves_nothing(tmp_path):
    saved_examples.save_examples(tmp_path, "pets", SimpleNamespace())
    saved_examples.save_examples(tmp_path, "pets", SimpleNamespace(examples={}))
    assert not list(tmp_path.iterdir())
