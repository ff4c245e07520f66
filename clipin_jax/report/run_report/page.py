"""The report of one or several runs: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clipin_jax.report.components import fold_each, note
from clipin_jax.report.document import document
from clipin_jax.report.images import ImageRoom
from clipin_jax.report.markup import Markup, tag
from clipin_jax.report.run_history import RunHistory, read_histories
from clipin_jax.report.run_report import (
    caption_gallery,
    cost,
    example_gallery,
    overview,
    scores,
)
from clipin_jax.report.run_report.curves import curves_section
from clipin_jax.report.run_report.labels import run_names
from clipin_jax.report.text_format import join_words
from clipin_jax.storage import write_output

_IMAGES = 1_000_000  # bytes of all images together
_MOST_GALLERIES = 4  # runs whose images are shown


def write_report(
    workdirs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    show: str | None = None,
) -> Path:
    """Writes the page about some runs; a run may be unfinished or damaged at its end.

    Args:
      workdirs: run folders by path or URL, or one.
      output: the HTML file, by path or URL.
      show: a regular expression; the metrics whose names it finds are shown first, in
        place of the loss and the headline scores.

    Returns:
      The file's path.

    Raises:
      ClipinError: a folder holds no run, `show` finds no metric, or the file cannot be
        written.
    """
    folders = [workdirs] if isinstance(workdirs, str | Path) else workdirs
    return write_output(output, report_page(read_histories(folders), show))


def report_page(runs: Sequence[RunHistory], show: str | None = None) -> str:
    """Returns the page, see `write_report`."""
    scores.check_pattern(runs, show)
    names = dict.fromkeys(str(run.config.get("name", run.label)) for run in runs)
    title = join_words(names) if len(names) < 4 else f"{len(runs)} runs"
    leading, room = scores.leading_scores(runs, show), ImageRoom(_IMAGES)
    sections = {
        "Overview": overview.runs_table(runs, leading),
        "Score against cost": cost.cost_section(runs, leading),
        "Curves": curves_section(runs, leading, show),
        "Written captions": caption_gallery.captions_section(runs, room),
        "All scores": scores.scores_section(runs),
        "Retrievals": _fold_runs(runs, example_gallery.retrievals_gallery, room),
        "Training pairs": _fold_runs(runs, example_gallery.pairs_gallery, room),
        "Wall time": overview.goodput_table(runs),
        "Config": overview.configs_section(runs),
        "Environment": overview.environment_table(runs),
    }
    styles = (overview, cost, scores, caption_gallery, example_gallery)
    style = "".join(module.STYLE for module in styles)
    return document(title, sections, style=style, kind="Report of runs")


def _fold_runs(
    runs: Sequence[RunHistory],
    part: Callable[[RunHistory, ImageRoom], Markup | None],
    room: ImageRoom,
) -> Markup | None:
    """Returns a part of the first runs that have it; None if none has."""
    labels = run_names(runs)[:_MOST_GALLERIES]
    parts = ((label, part(run, room)) for label, run in zip(labels, runs, strict=False))
    shown = fold_each(parts)
    if shown is None or len(runs) <= _MOST_GALLERIES:
        return shown
    about = note(f"The first {_MOST_GALLERIES} of {len(runs)} runs.")
    return tag("div", about, shown)
