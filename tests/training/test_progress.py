import io

from clipin_jax.training import progress as progress_module
from clipin_jax.training.progress import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_the_first_process_shows_progress(monkeypatch):
    monkeypatch.setattr(progress_module.jax, "process_index", lambda: 1)
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
    progress.update(1, {"loss": 1.0})
    progress.print_line("banner")
    progress.close()
    assert stream.getvalue() == ""


def test_plain_lines_come_every_few_seconds_and_at_the_end():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, 20, every_seconds=10, stream=stream, clock=clock)
    progress.print_line("banner")
    for step in range(21, 101):
        clock.now += 60 if step == 21 else 1  # the first one compiles
        progress.update(step, {"loss": 2.5} if step % 2 else {})
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[:3] == [
        "banner",
        "step 21/100, loss 2.5000, ETA ?",
        "step 31/100, loss 2.5000, ETA 01:09",
    ]
    assert lines[-1] == "step 100/100, loss 2.5000, ETA 00:00"
    assert len(lines) == 10


def test_a_line_has_all_figures():
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
    progress.update(1, {})
    figures = {
        "loss": 1.0,
        "images_per_second": 123.4,
        "data_wait_fraction": 0.034,
        "device_idle_fraction": 0.1,  # not shown: a sentence says it where it matters
        "mfu": 0.412,
        "peak_memory_gib": 12.34,
    }
    progress.update(2, figures)
    start = (
        "step 2/10, loss 1.0000, 123 images/s, MFU 41%, 12.3 GiB, 3% waiting for data, "
    )
    assert stream.getvalue().startswith(start)


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    progress = Progress(10, 5, stream=stream)
    progress.update(6, {"loss": 1.0, "images_per_second": 12.0})
    progress.print_line("a warning")
    progress.update(10, {"loss": 0.5, "images_per_second": 12.0})
    progress.close()
    shown = stream.getvalue()
    assert "10/10" in shown and "a warning\n" in shown
    assert "loss 0.5000, 12 images/s" in shown
