"""One HTML page about one or several runs, which needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipin_jax.errors import ClipinError
from clipin_jax.report import examples
from clipin_jax.report.page import page
from clipin_jax.report.run import read_runs

__all__ = ["examples", "write_report"]


def write_report(workdirs: Sequence[Path], output: Path) -> Path:
    """Writes the page about the runs in `workdirs` to `output`, and returns that.

    A run may be unfinished, or killed while it wrote: what can be read is shown.
    Raises ClipinError for a folder that is no run, or an output that can not be
    written.
    """
    text = page(read_runs(workdirs))
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClipinError(
            f"can not write the report to {output}: {error.strerror or error}"
        ) from error
    return output
