"""Writes run folders without training, and reports of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from clipin_jax.report import write_report
from tests.support.html_pages import EVIL, ParsedPage

FIGURES = {
    "pets/text_to_image_R@1": {"format": "{:.1%}", "better": "higher"},
    "pets/text_to_image_median_rank": {"format": "{:.1f}", "better": "lower"},
}


def make_run(
    folder: Path,
    *,
    steps: int = 300,
    shift: float = 0.0,
    more: Mapping[str, float] = MappingProxyType({}),
    **config,
) -> Path:
    """Writes the folder of a run of 300 steps.

    `shift` is added to its scores, and `more` has metrics by name, divided by the step.
    """
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
            **{name: value / step for name, value in more.items()},
        }
        if step % 100 == 0:
            record["pets/text_to_image_R@1"] = step / 1000 + shift
            record["pets/text_to_image_median_rank"] = 10 - 100 * shift
            record["pets/chance/text_to_image_R@1"] = 0.0123
            record["pets/images_left_out"] = 2
        lines.append(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def write_evaluation(folder: Path, step: int = 300, **content) -> None:
    """Writes an evaluation of a run; `content` is added to its JSON file."""
    (folder / "eval").mkdir(exist_ok=True)
    path = folder / "eval" / f"{step}.json"
    path.write_text(json.dumps({"step": step, "scores": {}, **content}))


def make_report(tmp_path: Path, *runs: Path) -> tuple[str, ParsedPage]:
    """Writes the report of some runs; returns its text, and the parsed page."""
    text = write_report(list(runs), tmp_path / "out" / "report.html").read_text()
    return text, ParsedPage(text)
