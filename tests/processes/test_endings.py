import pytest

from clipin_jax.processes import endings as endings_module
from clipin_jax.processes.endings import Ending, Endings
from clipin_jax.processes.group import Group
from clipin_jax.processes.watch import BEHIND_SECONDS, SILENT_SECONDS, Watch


class Left(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def ended(together, monkeypatch):
    """Ends processes as threads; returns the exit codes and the lines printed."""
    monkeypatch.setattr(endings_module, "_COLLECT_SECONDS", 0.3)
    monkeypatch.setattr(endings_module, "_ANSWER_SECONDS", 2.0)
    lines = []
    monkeypatch.setattr(
        endings_module, "print_error", lambda message: lines.append(message)
    )

    def end(*given):
        codes = {}

        def leave(group):
            def note(code):
                codes[group.index] = code
                raise Left

            endings = Endings(group, note)
            if given[group.index] is None:
                while not endings.reported():
                    pass
            try:
                endings.end(given[group.index])
            except Left:
                pass

        together(len(given), leave)
        return [codes[index] for index in range(len(given))], sorted(lines)

    return end


def test_one_fails(ended):
    codes, lines = ended(None, Ending(78, "no such data"), None)
    assert codes == [78, 78, 78]
    assert lines == ["process 1 (host n0): no such data"]


def test_the_first_fails(ended):
    codes, lines = ended(Ending(1, "disk full"), None)
    assert codes == [1, 1] and lines == ["process 0 (host n0): disk full"]


def test_all_fail_alike(ended):
    same = Ending(78, "a key is wrong")
    assert ended(same, same, same) == ([78] * 3, ["a key is wrong"])


def test_some_fail_in_their_own_ways(ended):
    codes, lines = ended(Ending(1, "a"), Ending(1, "b"), Ending(1, "b"))
    assert codes == [1, 1, 1]
    assert lines == [
        "process 0 (host n0): a",
        "process 1 (host n0), process 2 (host n1): b",
    ]


def test_nobody_prints_for_the_others(store, monkeypatch):
    monkeypatch.setattr(endings_module, "_ANSWER_SECONDS", 0.2)
    lines, codes = [], []
    monkeypatch.setattr(endings_module, "print_error", lines.append)
    endings = Endings(Group(1, 2, store), codes.append)
    endings.end(Ending(1, "disk full"))
    assert codes == [1] and lines == ["process 1: disk full"]


@pytest.fixture
def watch(store):
    group = Group(0, 3, store)
    group.hosts = ["n0", "n0", "n1"]
    return Watch(group, Endings(group))


def beat(store, *steps, number=1, doubt=0):
    for index, step in enumerate(steps):
        if step is not None:
            store.put("beats", str(index), f"{number} {step} {doubt}")


def test_a_silent_process(watch, store):
    beat(store, 0, 0, 0)
    assert watch.find_problem(100.0) == ""
    beat(store, 0, 0, None, number=2)
    assert watch.find_problem(100.0 + SILENT_SECONDS) == ""
    beat(store, 0, 0, None, number=3)
    problem = watch.find_problem(101.0 + SILENT_SECONDS)
    assert problem.startswith("process 2 (host n1) has not answered for 60 s: it was")


def test_a_failed_collective_makes_it_sooner(watch, store):
    beat(store, 0, 0, 0)
    assert watch.find_problem(100.0) == ""
    beat(store, 0, 0, None, number=2, doubt=1)
    assert "process 2 (host n1) has not answered for 10 s" in watch.find_problem(111.0)


def test_a_process_that_others_wait_for(watch, store):
    beat(store, 3, 3, 3)
    assert watch.find_problem(0.0) == ""
    for second in range(1, int(BEHIND_SECONDS) + 3):
        beat(store, 4, 3, 4, number=second)
        problem = watch.find_problem(float(second))
        assert not problem or second > BEHIND_SECONDS
    assert problem.startswith("process 1 (host n0) has been at step 3 for 60")
    assert "others wait for it at step 4" in problem


def test_slow_steps_are_no_problem(watch, store):
    for second in range(2000):  # as in an evaluation
        beat(store, 7, 7, 7, number=second)
        assert watch.find_problem(float(second)) == ""


def test_lines_end_where_a_progress_bar_is(capfd):
    endings_module.print_error("disk full")
    assert capfd.readouterr().err == "clipin: error: disk full\n"
