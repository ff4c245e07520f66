import numpy as np

from clipin_jax.inference.explain import Explanation
from clipin_jax.report import explanation_sheet
from clipin_jax.report.explanation_sheet import write_explanations
from tests.support.html_pages import EVIL, ParsedPage, check_self_contained


def explain_nothing(workdir, images, texts, **options):
    """Returns maps without a model: a word each where `words` is asked for."""
    image, map_ = np.zeros((30, 50, 3), np.uint8), np.eye(3, dtype=np.float32)
    words = [("red", map_)] if options.get("words") else []
    return [Explanation(image, text, map_, words) for text in texts]


def test_a_page_has_the_image_and_a_map_of_each_run(tmp_path, monkeypatch):
    monkeypatch.setattr(explanation_sheet, "explain_image", explain_nothing)
    runs, texts = [tmp_path / "one", tmp_path / "two"], ["a star", EVIL]
    output = write_explanations(runs, "a.png", texts, tmp_path / "page.html")
    text = output.read_text()
    check_self_contained(text)
    page = ParsedPage(text)
    assert page.count("img") == 2 * 3
    assert page.texts.count("one") == page.texts.count("two") == 2
    assert {"a star", EVIL} <= set(page.texts)
    write_explanations(runs, "a.png", ["a star"], output, words=True)
    page = ParsedPage(output.read_text())
    assert page.count("img") == 2 * 3 and page.texts.count("red") == 2
