"""Training in a cell: what is shown, and what an interrupt does."""

import itertools
import re
import signal
import sys
import threading

import pytest

import clipin_jax
from clipin_jax.errors import ClipinError
from clipin_jax.notebook import training
from clipin_jax.notebook.live import LiveView
from clipin_jax.notebook.training import with_threads
from tests.notebook.conftest import CONFIG, Output
from tests.support import tiny_runs
from tests.support.html_pages import ParsedPage


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with tiny_runs.on_one_device():
        yield


def interrupt_at(step, patch):
    """Lets the interrupt of a kernel come once a cell has taken a step."""
    update = LiveView.update

    def interrupted(self, done, values):
        update(self, done, values)
        if done == step:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(LiveView, "update", interrupted)


def test_an_interrupted_cell_returns_the_run_and_another_thread_finishes_it(
    notebook, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        run = clipin_jax.train(CONFIG, tmp_path)
    assert not run.finished and run.history["step"].to_pylist() == [1, 2, 3]
    shown = capsys.readouterr()
    assert "saved at step 3" in shown.out
    assert "to go on, run the cell again" in shown.out
    assert shown.err == ""  # it would be red
    assert "step 3 of 6, stopped, loss" in repr(notebook.outputs[-1].drawings[-1])

    runs = []
    thread = threading.Thread(target=lambda: runs.append(run.resume()))
    thread.start()
    thread.join()
    [shown] = re.findall(r"evaluation at step 6\n(.*\n.*)", capsys.readouterr().out)
    scores, after = shown.splitlines()
    assert scores.startswith("  retrieval: image_to_text_R@1 ")
    assert re.search(r", mean_recall [\d.]+% \(chance [\d.]+%\)$", scores)
    assert "median_rank" not in scores and "goodput" in after
    assert runs[0].finished and runs[0].scores["retrieval/mean_recall"] > 0
    assert runs[0].history["step"].to_pylist() == [*range(1, 7)]
    last = notebook.outputs[-1].drawings[-1]
    assert "step 6 of 6, done, loss" in repr(last) and "(chance 2.773)" in repr(last)
    page = ParsedPage(last._repr_html_())
    assert {"loss", "contrastive/"} <= set(page.bold)
    assert page.count("i", style="width:100.0%") == 1


def test_outside_of_ipython_an_interrupt_is_one(monkeypatch, tmp_path):
    def stopped(config, workdir, **options):
        assert not options
        raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(training, "train_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.train_here(CONFIG, tmp_path)


def test_drawings_take_a_hundredth_of_the_time(tmp_path, finished):
    now = 0.0
    costs = itertools.chain([0.0, 0.1], itertools.repeat(0.0))  # seconds of drawings

    class Slow(Output):
        def update(self, drawing):
            nonlocal now
            super().update(drawing)
            now += next(costs)

    output = Slow()

    def show(drawing):
        output.update(drawing)
        return output

    view = LiveView(CONFIG, finished, 0, show=show, clock=lambda: now)
    drawn = []
    for step in range(1, 241):
        count = len(output.drawings)
        view.update(step, {"loss": 1.0})
        if len(output.drawings) > count:
            drawn.append(now)
        now += 0.1
    # The first one took 0.1 s, so the next waits for 10 s, and the others for 1 s.
    assert drawn[0] == pytest.approx(0.1) and drawn[1] - drawn[0] >= 10
    assert drawn[2] - drawn[1] == pytest.approx(1.0, abs=0.11)


def test_a_drawing_that_fails_does_not_end_the_run(finished, capsys):
    class Broken(Output):
        def update(self, drawing):
            super().update(drawing)
            raise ConnectionError("the frontend is gone")

    output = Broken()
    view = LiveView(CONFIG, finished, 0, show=lambda drawing: output)
    for step in range(1, 4):
        view.log(step, {"train/loss": float("nan"), "train/other": 1.0})
        view.update(step, {})
    view.close()
    assert len(output.drawings) == 1
    shown = capsys.readouterr().out
    assert shown.count("is not drawn: ConnectionError: the frontend is gone") == 1


def test_a_notebook_starts_no_worker_processes(notebook, capsys):
    config = tiny_runs.tiny_run("data.processes=3", "data.threads=2")
    changed = with_threads(config)
    assert (changed.data.processes, changed.data.threads) == (0, 3)
    assert "data.threads is 3, data.processes 0 instead of 3" in capsys.readouterr().out
    assert with_threads(changed) is changed


def test_an_error_is_one_line_in_ipython(monkeypatch):
    error = ClipinError("the disk is full: make room")
    assert error._render_traceback_() == ["ClipinError: the disk is full: make room"]
    monkeypatch.setenv("CLIPIN_JAX_TRACEBACK", "1")
    assert error._render_traceback_()[-1].startswith("clipin_jax.errors.ClipinError: ")
