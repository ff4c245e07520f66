"""What a notebook shows of configs, models, data checks, sweeps and studies."""

import json
import re
import types

import pytest
from ml_collections import ConfigDict

import clipin_jax
from clipin_jax import ClipinError
from clipin_jax.config import load_config
from clipin_jax.inference.model import load
from clipin_jax.notebook import formatters
from clipin_jax.notebook.config_view import config_html
from clipin_jax.notebook.model_view import model_html
from clipin_jax.report.fragment import InlinePage, fragment
from clipin_jax.report.markup import tag
from clipin_jax.sweep.definition import open_home
from clipin_jax.sweep.sweep_file import load_sweep
from tests.support import tiny_runs
from tests.support.html_pages import EVIL, ParsedPage
from tests.support.study_results import looseness_study


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


def before_fold(html: str) -> set[str]:
    """Returns the texts above the first line that unfolds something."""
    return set(ParsedPage(html.partition("<details>")[0] + "</div>").texts)


def test_a_config_shows_what_differs_from_its_page():
    html = config_html(load_config("quickstart:clipin", ["total_steps=200"]))
    unfolded = before_fold(html)
    assert {"quickstart_clipin", ": 15 keys of quickstart changed"} <= unfolded
    assert {"total_steps", "200", "600", "objectives.clipin.weight"} <= unfolded
    assert "batch_size" not in unfolded and "batch_size" in ParsedPage(html).texts
    plain = before_fold(config_html(load_config("quickstart")))
    assert ": quickstart as it is" in plain and "total_steps" not in plain


@pytest.mark.parametrize(
    "config, text",
    [
        (load_config("quickstart").optim, "weight_decay"),
        (ConfigDict({"name": "of another project", "a": {"b": EVIL}}), EVIL),
        (ConfigDict(), "No keys."),
    ],
)
def test_any_config_has_a_rich_form(config, text):
    assert text in ParsedPage(config_html(config)).texts


def test_a_model_shows_what_it_is(finished):
    model = load(finished)
    page = ParsedPage(model_html(model))
    assert {f"{finished}@6", "text_transformer for 16 tokens"} <= set(page.texts)
    assert repr(model).startswith(f"<Model {finished}@6: vit for images of 32 x 32 ")


def test_ipython_gets_the_forms_of_classes_elsewhere(notebook):
    forms = {}
    html = types.SimpleNamespace(
        for_type_by_name=lambda module, name, form: forms.update({(module, name): form})
    )
    notebook.display_formatter = types.SimpleNamespace(formatters={"text/html": html})
    formatters.register()
    config = load_config("quickstart")
    form = forms[type(config).__module__, type(config).__name__]
    assert form(config) == config_html(config)
    assert (clipin_jax.load.__module__, "Model") in forms


def test_a_data_check_is_a_result():
    check = clipin_jax.check_data("quickstart", ["data.source.length=64"], records=20)
    assert not check.stops and check.statistics["scanned"] == 20
    assert repr(check).endswith("nothing to fix")
    page = ParsedPage(check._repr_html_())
    assert {"Nothing to fix.", "Samples", "captions"} <= set(page.texts)
    small = load_config("quickstart", ["data.source.length=20"])
    check = clipin_jax.check_data(small, records=20)
    assert (
        check.stops and "training would stop: " in ParsedPage(check._repr_html_()).texts
    )
    with pytest.raises(ClipinError, match="records is -1: give a number of at least 0"):
        clipin_jax.check_data("quickstart", records=-1)


def test_a_sweep_shows_its_page(tmp_path):
    options = {"metric": "retrieval/mean_recall"}
    sweep = load_sweep("quickstart", {"optim.weight_decay": "0.1,0.2"}, options)
    open_home(sweep, tmp_path)
    outcome = clipin_jax.open_sweep(tmp_path)
    assert len(outcome.points) == 2 and outcome.ranked == []
    assert "2 points: 2 has not run" in repr(outcome)
    assert "optim.weight_decay" not in repr(outcome)
    assert outcome.page.save(tmp_path / "page.html").read_text() in outcome.page.html
    with pytest.raises(ClipinError, match="is no folder of a sweep"):
        clipin_jax.open_sweep(tmp_path / "absent")


def test_a_study_shows_its_page_and_conclusions(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(looseness_study(seeds=2)))
    outcome = clipin_jax.open_study(tmp_path)
    assert repr(outcome).splitlines()[1:] == outcome.conclusions
    assert "iframe" in outcome._repr_html_()
    with pytest.raises(ClipinError, match="cannot read the results"):
        clipin_jax.open_study(tmp_path / "absent.json")


def test_a_fragment_keeps_its_style_to_itself():
    html = fragment(tag("p", EVIL), style=".own { color: red }")
    css = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)[0]
    assert css.count("{") == css.count("}")
    # All but the theme's variables is nested in the rule of the fragment's own class.
    outer, _, _ = css.partition("padding:")
    rules = re.sub(r"\{[^{}]*\}", "", outer)
    for selector in filter(None, map(str.strip, re.split(r"[{}\n]", rules))):
        assert selector.startswith("@media") or ".clipin-jax" in selector, selector
    assert EVIL in ParsedPage(html).texts


def test_a_page_in_a_frame_keeps_its_links_inside():
    page = InlinePage("A page", "<html><head></head><a href='#x'>x</a></html>")
    [frame] = [a for tag, a in ParsedPage(page.frame()).tags if tag == "iframe"]
    assert '<base href="about:srcdoc"/>' in frame["srcdoc"]
    assert "<base" not in page.html
