"""The report of one or several runs: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clipin_jax.report.components import colour_label, fold_each
from clipin_jax.report.document import document
from clipin_jax.report.markup import Markup
from clipin_jax.report.run_history import RunHistory, read_histories
from clipin_jax.report.run_report import example_gallery, overview, scores
from clipin_jax.report.run_report.curves import curves_section
from clipin_jax.storage import write_output


def write_report(
    workdirs: str | Path | Sequence[str | Path], output: str | Path
) -> Path:
    """Writes the page about some runs; a run may be unfinished or damaged at its end.

    Args:
      workdirs: run folders by path or URL, or one.
      output: the HTML file, by path or URL.

    Returns:
      The file's path.

    Raises:
      ClipinError: a folder holds no run, or the file cannot be written.
    """
    folders = [workdirs] if isinstance(workdirs, str | Path) else workdirs
    return write_output(output, report_page(read_histories(folders)))


def report_page(runs: Sequence[RunHistory]) -> str:
    """Returns the page."""
    names = dict.fromkeys(str(run.config.get("name", run.label)) for run in runs)
    title = " and ".join(names) if len(names) < 4 else f"{len(runs)} runs"
    sections = {
        "Runs": overview.runs_table(runs),
        "Scores": scores.scores_section(runs),
        "Curves": curves_section(runs),
        "Wall time": overview.goodput_table(runs),
        "Training pairs": _fold_runs(runs, example_gallery.pairs_gallery),
        "Retrievals": _fold_runs(runs, example_gallery.retrievals_gallery),
        "Config": overview.configs_section(runs),
        "Environment": overview.environment_table(runs),
    }
    style = overview.STYLE + scores.STYLE + example_gallery.STYLE
    return document(title, sections, style=style)


def _fold_runs(
    runs: Sequence[RunHistory], part: Callable[[RunHistory], Markup | None]
) -> Markup | None:
    """Returns a part of each run that has it; None if none has."""
    return fold_each(
        (colour_label(run.label, index), part(run)) for index, run in enumerate(runs)
    )
