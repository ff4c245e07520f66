"""A source and a tokenizer of another package, in the pipeline and its processes."""

import sys
import textwrap

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from clipin_jax.data import make_source, source
from clipin_jax.data.evaluation_batches import eval_batches
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError
from tests.data.image.test_views import packed
from tests.data.test_pipeline import batches_of, config

COUNT = 24
IMPORTS = """
from pathlib import Path

from clipin_jax.data.source import fingerprint
from clipin_jax.data.text.tokenizer import BaseTokenizer

"""
TOKENIZER = """

class Letters(BaseTokenizer):
    vocab_size, start, end = 128, 1, 2

    def __init__(self, context_length, upper=False, **captions):
        super().__init__(context_length, **captions)
        self._upper = upper

    def encode(self, text):
        return [ord(c) % 128 for c in (text.upper() if self._upper else text)]

    def decode(self, ids):
        return "".join(map(chr, ids))
"""


def example():
    """The minimal source in the documentation of `data.source`."""
    documentation = str(source.__doc__)
    start = documentation.index("    class Reports:")
    return textwrap.dedent(documentation[start : documentation.index("With `data.")])


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """The config of a folder of reports, read by a package that is on the path."""
    package = tmp_path / "site" / "elsewhere"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data.py").write_text(IMPORTS + example() + TOKENIZER)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    folder = tmp_path / "reports"
    folder.mkdir()
    for number in range(COUNT):
        pixels = Image.new("RGB", (24, 20), (9 * number,) * 3)
        (folder / f"{number:02}.png").write_bytes(packed(pixels, "PNG"))
        (folder / f"{number:02}.txt").write_text(f"report {number}")
    yield dict(name="elsewhere.data:Reports", folder=str(folder))
    for module in ("elsewhere.data", "elsewhere"):
        sys.modules.pop(module, None)


def test_processes_make_the_same_batches(reports):
    tokenizer = dict(name="elsewhere.data:Letters", upper=True)
    data = dict(source=reports, tokenizer=tokenizer)
    here, state = batches_of(4, config(**data))
    there, same_state = batches_of(4, config(**data, processes=1))
    assert state == same_state
    assert state["fingerprint"] == make_source(**reports).fingerprint
    for one, other in zip(here, there, strict=True):
        assert one["index"].tolist() == other["index"].tolist()
        for key in ("image", "text"):
            assert (one["view1"][key] == other["view1"][key]).all()
    start = ord("R")
    assert all(batch["view1"]["text"][0, 1] == start for batch in here)


def test_evaluation_and_mixtures(reports):
    alone = make_source(**reports)
    parts = dict(a=dict(reports, weight=1), b=dict(name="scenes", length=5, weight=1))
    mixed = make_source(name="mixture", sources=parts)
    assert len(mixed) == COUNT + 5 and mixed[3] == alone[3]
    assert cloudpickle.loads(cloudpickle.dumps(mixed))[3] == alone[3]
    size = dict(image_size=(8, 8), interpolation="bilinear", batch_size=16)
    images = np.concatenate([b["image"] for b in eval_batches(alone, **size)])
    assert images[:COUNT, 0, 0, 0].tolist() == [9 * n for n in range(COUNT)]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="elsewhere.data:Report"), "did you mean 'Reports'"),
        (dict(name="elsewhere.date:Reports"), "elsewhere.date"),
        (dict(foldr="x"), "did you mean 'folder'"),
    ],
)
def test_wrong_names(reports, changes, message):
    with pytest.raises(ClipinError, match=message):
        make_source(**{**reports, **changes})


def test_wrong_arguments_of_a_tokenizer(reports):
    with pytest.raises(ClipinError, match="lower"):
        make_tokenizer("elsewhere.data:Letters", lower=True)
