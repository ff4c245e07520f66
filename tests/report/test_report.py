import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.report import examples, write_report
from clipin_jax.report.charts import (
    Line,
    format_number,
    line_chart,
    smooth,
    tick_labels,
    ticks,
)
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run import read_runs

EVIL = "<script>alert('&')</script>"
VOID = ("wbr",)  # the only one that is not closed in itself


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.bold: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] == "b":
            self.bold.append(data)

    def count(self, name: str, **attributes) -> int:
        wanted = attributes.items()
        return sum(t == name and wanted <= a.items() for t, a in self.tags)


def make_run(folder: Path, *, steps: int = 300, shift: float = 0.0, **config) -> Path:
    folder.mkdir(parents=True)
    config = {
        "name": "tiny",
        "total_steps": 300,
        "batch_size": 8,
        "objectives": {"clipin": {"note": EVIL}},
        "evals": {"pets": {"type": "retrieval"}, "probe": {"type": "linear_probe"}},
        **config,
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for step in range(1, steps + 1):
        record = {
            "step": step,
            "time": step / 2,
            "train/loss": 1 / step,
            "train/images_per_second": 100.0 + step % 7,
            "train/nan": float("nan"),
            "health/clipin/image_to_text/shuffled_margin": step / 300,
        }
        if step % 100 == 0:
            record["pets/text_to_image_R@1"] = step / 1000 + shift
            record["pets/text_to_image_median_rank"] = 10 - 100 * shift
            record["pets/chance/text_to_image_R@1"] = 0.0123
        lines.append(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def report(tmp_path: Path, *runs: Path) -> tuple[str, Page]:
    text = write_report(list(runs), tmp_path / "out" / "report.html").read_text()
    return text, Page(text)


def test_one_run(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "DONE").touch()
    (run / "environment.json").write_text(json.dumps({"versions": {"jax": "0.10.2"}}))
    text, page = report(tmp_path, run)
    assert "http" not in text and "<script" not in text and "@import" not in text
    assert page.count("figure", **{"class": "chart"}) == 5
    assert {"finished", "300 of 300", "0.300", "0.012", "0.10.2"} <= set(page.words)
    assert EVIL in page.words
    assert "2 min 30 s" in page.words


def test_scores_stand_beside_chance_and_the_best_is_bold(tmp_path):
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", shift=0.05)
    _, page = report(tmp_path, first, second)
    assert "0.350" in page.bold and "0.300" not in page.bold
    assert "5" in page.bold and "10" not in page.bold  # the lower median rank


def test_evaluations_on_file_join_those_of_the_log(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "eval").mkdir()
    scores = {"probe/accuracy": 0.625, "probe/chance/accuracy": 0.25, "probe/bad": None}
    content = json.dumps({"step": 300, "scores": scores})
    (run / "eval" / "300.json").write_text(content)
    (run / "eval" / "200.json").write_text("[]")
    final = read_runs([run])[0].final_scores()
    assert final["probe/accuracy"] == 0.625
    assert final["pets/text_to_image_R@1"] == 0.3


def test_differences_of_configs(tmp_path):
    runs = [make_run(tmp_path / str(i), batch_size=i, extra={}) for i in (8, 16)]
    _, page = report(tmp_path, *runs)
    before_details = page.words[: page.words.index("Config", 20) + 12]
    assert "batch_size" in before_details
    assert "total_steps" not in before_details
    same = [make_run(tmp_path / name) for name in ("a", "b")]
    assert "The runs have the same config." in report(tmp_path, *same)[1].words


def test_a_killed_and_resumed_run(tmp_path):
    run = make_run(tmp_path / "run", steps=20)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "train/loss": 7.5}\n{"step": 21, "train/lo')
    (run / "environment.json").write_text('{"versions": {')
    _, page = report(tmp_path, run)
    read = read_runs([run])[0]
    assert read.series["train/loss"][15] == 7.5
    assert list(read.series["train/loss"]) == list(range(1, 21))
    assert "train/nan" not in read.series
    assert read.environment == {}
    assert "not finished" in page.words
    assert "No evaluation has run yet." in page.words


def test_a_run_that_has_only_begun(tmp_path):
    run = make_run(tmp_path / "run", steps=0, evals=None)
    _, page = report(tmp_path, run)
    assert "Nothing has been logged yet." in page.words
    (run / "metrics.jsonl").unlink()
    report(tmp_path, run)


def test_many_runs_of_the_same_name(tmp_path):
    runs = [make_run(tmp_path / f"sweep{i}" / "run", steps=3) for i in range(12)]
    _, page = report(tmp_path, *runs, runs[0])
    assert len(read_runs([*runs, runs[0]])) == 12
    assert {"sweep0/", "sweep11/"} <= set(page.words)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is no run folder: it has no config.json"), ("[1", "config.json can not")],
)
def test_what_is_no_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ClipinError, match=message):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_run_and_no_place(tmp_path):
    with pytest.raises(ClipinError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    run = make_run(tmp_path / "run", steps=1)
    with pytest.raises(ClipinError, match="can not write the report"):
        write_report([run], run / "config.json" / "report.html")


class Words:
    """A tokenizer that knows few words."""

    start, end = 8, 9
    words = ("", "a", "red", EVIL)

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


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
    examples.save_pairs(run, batch, Words())
    html, page = report(tmp_path, run)
    assert page.count("img") == 16
    assert page.words.count("a red") == 8
    assert page.words.count(EVIL) >= 8 and "<script" not in html
    (run / "examples" / "pair3_view2.png").unlink()
    _, page = report(tmp_path, run)
    assert page.count("img") == 15 and "missing" in page.words


class Pictures(list):
    classes = ()
    fingerprint = "pictures"

    def annotations(self, index):
        return self[index]

    def describe(self, index):
        return "in memory"


def test_retrievals(tmp_path):
    run = make_run(tmp_path / "run", steps=1)
    found = {"caption": "ok", "image": 4, "rank": 1, "score": 0.9}
    missed = {"caption": EVIL, "image": 2, "rank": 7, "score": 0.1}
    shown = [(4, 0.9), (11, 0.25)]
    evaluator = SimpleNamespace(
        source=Pictures(
            {"image": np.full((200, 100, 3), i, np.uint8), "captions": ("",)}
            for i in range(12)
        ),
        image_size=(200, 100),
        interpolation="bicubic",
        examples={
            "best": [{**found, "retrieved": shown}],
            "worst": [{**missed, "retrieved": shown}],
        },
    )
    examples.save_retrievals(run, "pets", evaluator)
    saved = sorted(p.name for p in (run / "examples").glob("*.png"))
    assert saved == [f"retrieval_pets_{i}.png" for i in (11, 2, 4)]
    html, page = report(tmp_path, run)
    assert page.count("img") == 5
    assert page.count("figure", **{"class": "hit"}) == 1
    assert page.count("figure", **{"class": "missed"}) == 1
    assert "found at place 7" in page.words and "<script" not in html


def test_examples_that_can_not_be_written(tmp_path):
    (tmp_path / "examples").write_text("a file where a folder should be")
    view = {"image": np.zeros((1, 4, 4, 3), np.uint8), "text": np.array([[8, 1, 9]])}
    with pytest.raises(ClipinError, match="can not keep examples in"):
        examples.save_pairs(tmp_path, {"view1": view}, Words())


def test_an_evaluator_without_examples_leaves_nothing(tmp_path):
    examples.save_retrievals(tmp_path, "pets", SimpleNamespace())
    examples.save_retrievals(tmp_path, "pets", SimpleNamespace(examples={}))
    assert not list(tmp_path.iterdir())


def test_markup_escapes_all_but_itself():
    inner = tag("b", EVIL, title='"')
    assert inner == (
        '<b title="&quot;">&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;</b>'
    )
    assert tag("p", inner, Markup("<i></i>"), None, class_="x", id=None) == (
        f'<p class="x">{inner}<i></i></p>'
    )


def test_ticks_and_numbers():
    assert ticks(0, 2000, 4) == [0, 500, 1000, 1500, 2000]
    np.testing.assert_allclose(ticks(-0.11, 0.32, 4), [-0.1, 0, 0.1, 0.2, 0.3])
    numbers = [0, 0.5, 12.345, 1800, 12000, 3.4e9, 2e-5, -0.25]
    assert [format_number(n) for n in numbers] == [
        "0", "0.5", "12.35", "1800", "12k", "3.4G", "2e-5", "-0.25"
    ]  # fmt: skip


def test_labels_of_ticks_differ():
    assert tick_labels([0.8525, 0.855, 0.8575]) == ["0.8525", "0.8550", "0.8575"]
    assert tick_labels([-0.5, 0, 0.5, 1]) == ["-0.5", "0", "0.5", "1.0"]
    assert tick_labels([0, 500, 1000]) == ["0", "500", "1000"]
    assert tick_labels([0, 2e-5]) == ["0", "2e-5"]


def test_a_flat_line_has_a_frame():
    values = np.array([0.5, np.nextafter(0.5, 1)])
    Page(line_chart("x", [Line("run", 0, np.array([1.0, 2.0]), values)]))


def test_smoothing_keeps_a_level_up_to_the_ends_and_forgets_a_spike():
    values = np.full(500, 3.0)
    values[77] = 1e9
    np.testing.assert_allclose(smooth(values), 3.0)


@pytest.mark.parametrize("count", [1, 2, 50, 101, 5000])
def test_a_chart_of_any_length_stays_small_and_inside(count):
    steps = np.arange(1, count + 1) * 10.0
    values = np.sin(steps)
    values[count // 2] = 1e9 if count > 100 else 1  # a spike
    chart = line_chart("x", [Line("run", 0, steps, values)], chance=0.5)
    assert len(chart) < 40_000
    page = Page(chart)
    for name, attributes in page.tags:
        if name == "circle":
            assert 0 <= float(attributes["cx"]) <= 300
            assert 0 <= float(attributes["cy"]) <= 165
    assert "nan" not in chart
