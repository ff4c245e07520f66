from concurrent.futures import Executor, Future
from typing import Any

import pytest

from clipin_jax.training.measures.step_timing import StepTimer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class AtOnce(Executor):
    """Waits for a step when it is given one, and sets the clock back afterwards."""

    def __init__(self, clock: Clock, seconds: float | None):
        self.clock, self.seconds = clock, seconds

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.seconds is not None:  # else the step is never done
            before = self.clock.now
            self.clock.now += self.seconds
            future.set_result(fn(*args))
            self.clock.now = before
        return future


class Done:
    def block_until_ready(self) -> None:
        pass


def take_steps(timer: StepTimer, clock: Clock, *, data: float, other: float) -> None:
    """Takes ten steps; the host needs some time for data, then some for other work."""
    for _ in range(10):
        with timer.waiting():
            clock.now += data
        timer.starts()
        timer.watch(Done())
        clock.now += other


def measure(seconds: float | None, *, data: float, other: float) -> Any:
    """Returns what ten steps after a first one give; seconds: of a step."""
    clock = Clock()
    timer = StepTimer(clock, AtOnce(clock, seconds))
    take_steps(timer, clock, data=data, other=other)
    timer.read()
    take_steps(timer, clock, data=data, other=other)
    return timer.read()


def test_figures_count_from_the_last_reading():
    clock = Clock()
    timer = StepTimer(clock, AtOnce(clock, None))
    take_steps(timer, clock, data=0.1, other=0.4)
    assert timer.read().figures(batch_size=8) == pytest.approx(
        {
            "images_per_second": 16.0,
            "data_wait_fraction": 0.2,
            "device_idle_fraction": 0.0,
        }
    )
    take_steps(timer, clock, data=1.0, other=0.0)
    figures = timer.read().figures(batch_size=8)
    assert figures["images_per_second"] == pytest.approx(8)
    assert figures["data_wait_fraction"] == pytest.approx(1)


@pytest.mark.parametrize(
    "seconds, data, other, idle, starved",
    [
        (None, 0.9, 0.1, 0.0, 0.0),  # the step outlasts the data
        (0.3, 0.9, 0.1, 0.7, 0.7),  # the step ends while the host waits for data
        (0.3, 0.1, 0.9, 0.7, 0.1),  # the host is slow, with little of it data
        (0.0, 1.0, 0.0, 1.0, 1.0),
    ],
)
def test_devices_are_idle_from_the_end_of_a_step_to_the_next(
    seconds, data, other, idle, starved
):
    window = measure(seconds, data=data, other=other)
    assert window.seconds == pytest.approx(10)
    assert window.idle / window.seconds == pytest.approx(idle)
    assert window.starved / window.seconds == pytest.approx(starved)


def test_idle_time_before_a_reading_is_not_of_the_window_after_it():
    clock = Clock()
    timer = StepTimer(clock, AtOnce(clock, 1.0))
    take_steps(timer, clock, data=0.0, other=0.0)
    clock.now += 100  # an evaluation
    timer.read()
    take_steps(timer, clock, data=2.0, other=0.0)
    window = timer.read()
    assert (window.seconds, window.idle) == pytest.approx((20, 2 + 9 * 1))


def test_a_step_that_fails_is_left_to_the_one_who_reads_it():
    class Failed:
        def block_until_ready(self) -> None:
            raise RuntimeError("out of memory")

    timer = StepTimer()
    timer.watch(Failed())
    timer.close()
    while not timer.is_done():
        pass
    timer.starts()
    assert timer.read().idle == 0
