import threading
import time

from clipin_jax.processes.group import Group
from clipin_jax.processes.stopping import CommonStop


def run_loop(group, wants_stop, barrier, seconds_of_step, total):
    """Takes steps that all processes share, as training does; returns the last one."""
    stop, is_over = CommonStop(group, wants_stop), threading.Event()

    def beats():
        while not is_over.wait(0.01):
            stop.beat()

    thread = threading.Thread(target=beats)
    thread.start()
    step = 0
    while not stop.reached() and step < total:
        barrier.wait(timeout=30)
        time.sleep(seconds_of_step * (1 + group.index))
        step += 1
    barrier.wait(timeout=30)  # saves together
    is_over.set()
    thread.join()
    return step


def test_all_stop_at_the_same_step(together):
    barrier, start = threading.Barrier(3), time.monotonic()

    def one(group):
        def asked():  # the last one alone
            return group.index == 2 and time.monotonic() - start > 0.3

        return run_loop(group, asked, barrier, 0.003, total=100_000)

    steps = together(3, one)
    assert len(set(steps)) == 1 and 0 < steps[0] < 1000


def test_asked_before_the_first_step(together):
    barrier = threading.Barrier(2)
    steps = together(2, lambda g: run_loop(g, lambda: True, barrier, 0.05, total=1000))
    assert len(set(steps)) == 1 and steps[0] < 10


def test_nobody_asks(together):
    barrier = threading.Barrier(2)
    steps = together(2, lambda g: run_loop(g, lambda: False, barrier, 0.0, total=30))
    assert steps == [30, 30]


def test_each_run_of_a_process_agrees_anew(together):
    def two_runs(group):
        first = CommonStop(group, lambda: True)
        assert not first.reached()
        for _ in range(50):
            first.beat()
        second = CommonStop(group, lambda: False)
        second.beat()
        return first.reached(), first.reached(), second.reached()

    assert together(2, two_runs) == [(True, True, False)] * 2


def test_alone_in_a_group_of_one(store):
    stop = CommonStop(Group(0, 1, store), lambda: True)
    assert not stop.reached()
    stop.beat()
    assert stop.reached()
