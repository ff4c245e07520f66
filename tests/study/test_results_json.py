import copy
import json

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.study.html_page import write_html_page
from clipin_jax.study.results_json import read_results
from tests.support.study_results import METRICS, RECALL, looseness_study


def test_results_are_read_back(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(looseness_study()))
    assert read_results(path) == looseness_study()


KEYS = [
    "name title question baseline methods dial levels metrics seeds scores costs",
    "settings environment",
]


@pytest.mark.parametrize("key", " ".join(KEYS).split())
def test_a_missing_key(tmp_path, key):
    content = looseness_study()
    del content[key]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ClipinError, match=f'results.json: "{key}" is missing; run the'):
        read_results(path)


def test_files_without_results(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(ClipinError, match="cannot read the results .*: No such file"):
        read_results(path)
    for text, message in [
        ('{"name": "x', "is damaged"),
        ("[1]", "must be a mapping"),
        (b"\xff\xfe\x00", "is damaged"),
    ]:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ClipinError, match=message):
            read_results(path)


FIRST = ("scores", 0)


WRONG = [
    (("methods",), "CLIP", '"methods" is .CLIP., not a list'),
    (("methods",), [], "list of one or more texts"),
    (("levels",), [0, 0.2], "list of one or more texts"),
    (("levels",), ["0", "0"], "has a name twice"),
    (("seeds",), ["0"], "list of one or more integers"),
    (("metrics",), {}, "metrics is empty"),
    (("metrics", RECALL), {"label": "x"}, 'mean_recall.*"percent" is missing'),
    (("metrics", RECALL), METRICS[RECALL] | {"chance": "0"}, '"chance" is .0.'),
    (("baseline",), "CLOP", "'CLOP', not among the methods"),
    (("pairs",), [["CLIP"]], "not a .method, baseline."),
    (("pairs",), [1], "not a .method, baseline."),
    (("pairs",), [["CLIP", "CLOP"]], "'CLOP', not among the methods"),
    ((*FIRST, "method"), "CLOP", r"scores\[0\]: its method 'CLOP' is not among"),
    ((*FIRST, "seed"), 77, "its seed 77 is not among"),
    ((*FIRST, "seed"), 1, "occurs twice"),
    ((*FIRST, "values"), {RECALL: "0.3"}, "the value of retrieval.* not a number"),
    ((*FIRST, "values"), {RECALL: True}, "the value of retrieval.* not a number"),
    ((*FIRST, "curves"), {RECALL: [1, 2]}, "the curve of .* is not a list of"),
    ((*FIRST, "curves"), {RECALL: [[1, "2"]]}, "the curve of .* is not a list of"),
    (FIRST, None, r"scores\[0\]: it must be a mapping"),
    (("costs", "CLIP"), 3, "costs: .CLIP. is 3, not a dict"),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG)
def test_results_that_contradict_themselves(tmp_path, place, value, message):
    content = copy.deepcopy(looseness_study())
    *path, last = place
    inner = content
    for key in path:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(ClipinError, match=message) as error:
        write_html_page(content, tmp_path / "page.html")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
