"""Entries of `config.evals` become evaluators, those of other packages too."""

import textwrap

import pytest
from ml_collections import ConfigDict

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators import make_available, make_evaluators
from clipin_jax.evaluators.base import Figure, find_figure, shown_figures
from clipin_jax.evaluators.clip_benchmark import clip_benchmark_record
from clipin_jax.evaluators.retrieval import Retrieval
from tests.support.in_memory import STATE, function_encoder

SCENES = {"name": "scenes", "split": "val", "length": 4, "size": 32}
OUTSIDE = """
    from clipin_jax.evaluators.base import Figure


    class Brightness:
        task = "brightness"
        figures = {"bright*": Figure("{:.1f} lux", headline=True)}

        def __init__(self, encoder, *, source, other_source, scale=1.0, batch_size=8):
            self.scale = scale * len(source)
            self.same = source is other_source

        def run(self, state):
            yield "brightness", self.scale
            yield "chance/brightness", 0.5
            yield "number", 3
"""


@pytest.fixture(scope="module")
def encoder():
    return function_encoder(image=None, text=None, match=None)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package of a folder on the path; its evaluator's name in configs."""
    (tmp_path / "lamp_scores.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "lamp_scores:Brightness"


def test_an_evaluator_of_another_package(encoder, outside):
    entry = dict(type=outside, source=SCENES, other_source=SCENES, scale=2.0)
    evaluators = make_evaluators(ConfigDict({"light": entry}), encoder)
    values = {f"light/{k}": v for k, v in evaluators["light"].run(STATE)}
    assert values["light/brightness"] == 8
    assert evaluators["light"].same  # equal sources are built once
    figures = shown_figures(evaluators, values)
    assert figures == {"light/brightness": Figure("{:.1f} lux", headline=True)}
    record = clip_benchmark_record(
        evaluators["light"], {}, dataset="d", model="m", pretrained="p"
    )
    assert (record["task"], record["metrics"]) == ("brightness", {})


def test_an_entry_of_the_name_of_its_type_needs_no_type(encoder):
    evals = ConfigDict({"retrieval": {"source": SCENES, "every_steps": 3}})
    assert isinstance(make_evaluators(evals, encoder)["retrieval"], Retrieval)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "retreival"}, r"evals\.x\.type .*did you mean 'retrieval'"),
        ({}, r"evals\.x\.type is 'x'"),
        ({"type": "no_such_package:Lamp"}, "no_such_package"),
        ({"type": "collections:OrderedDict"}, "is no evaluator, it has no task"),
        (
            {"type": "zero_shot", "source": {}, "template": ("{}",)},
            r"evals\.x\.template .*did you mean 'templates'",
        ),
        ({"type": "zero_shot", "every_steps": 5}, r"evals\.x\.source is missing"),
        (
            {"type": "retrieval", "batch_size": 0, "source": SCENES},
            r"evals\.x\.batch_size is 0",
        ),
        ({"type": "retrieval", "source": "coco"}, r"evals\.x: source must be a dict"),
    ],
)
def test_wrong_entries(encoder, entry, message):
    with pytest.raises(ClipinError, match=message):
        make_evaluators(ConfigDict({"x": entry}), encoder)


def test_evaluators_without_data_or_model_parts_are_left_out(encoder):
    evals = ConfigDict(
        {
            "good": {"type": "retrieval", "source": SCENES},
            "reranked": {"type": "retrieval", "source": SCENES, "rerank": 8},
            "absent": {
                "type": "retrieval",
                "source": {"name": "npz", "file": "absent.npz"},
            },
        }
    )
    evaluators, skipped = make_available(evals, encoder)
    assert list(evaluators) == ["good"] and set(skipped) == {"reranked", "absent"}
    assert skipped["reranked"].startswith("the model does not learn to match")
    wrong = ConfigDict({"x": {"type": "retrieval", "sorce": SCENES}})
    with pytest.raises(ClipinError, match="sorce does not exist"):
        make_available(wrong, encoder)


def test_figures_are_found_by_name_or_pattern():
    figures = {"a_R@1": Figure(headline=True), "*_R@*": Figure("{:.0f}")}
    assert find_figure(figures, "a_R@1") == Figure(headline=True)
    assert find_figure(figures, "b_R@5") == Figure("{:.0f}")
    assert find_figure(figures, "rank") is None


def test_a_first_image_that_cannot_be_decoded_is_an_error_at_once(encoder, tmp_path):
    folder = tmp_path / "of one class"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"no image")
    source = {"name": "image_folder", "folder": str(tmp_path)}
    evals = ConfigDict({"mine": dict(type="retrieval", source=source)})
    match = r"evals.mine: record 0, .*0\.png, cannot be decoded"
    with pytest.raises(ClipinError, match=match):
        make_evaluators(evals, encoder)
