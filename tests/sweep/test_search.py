"""Searches without training: what is asked, told, taken over, stopped and promoted."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from clipin_jax.config import to_json, with_defaults
from clipin_jax.runs.owner import own_folder
from clipin_jax.sweep.definition import Sweep, open_home
from clipin_jax.sweep.outcomes import collect_points, pareto_front, ranked
from clipin_jax.sweep.pages.importance import importance
from clipin_jax.sweep.processes.runs import DONE, FAILED, PRUNED, STOPPED, Ended, Run
from clipin_jax.sweep.search.pruning import TrialWatcher, rungs
from clipin_jax.sweep.search.trial_runs import TrialRuns, worker_folder
from clipin_jax.sweep.sweep_file import load_sweep, typed_items
from tests.support.tiny_sweep import DECAY, METRIC, RATE, write_config

SPACE = (f"{RATE}=1e-5..1e-1:log", f"{DECAY}=0,0.1")
SECOND = "retrieval/text_to_image_R@1"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    return str(write_config(tmp_path_factory.mktemp("search")))


def load(config: str, *items: str, home: Path, **options) -> Sweep:
    options = {"metric": METRIC} | options
    typed = typed_items(list(SPACE)) | typed_items(list(items))
    sweep = load_sweep(config, typed, options)
    open_home(sweep, home)
    return sweep


def quality(run: Run) -> float:
    """What a run scores: best at a rate of 1e-3, and a little with more decay."""
    optim = run.config.optim
    off = (math.log10(optim.learning_rate.peak) + 3) ** 2
    return math.exp(-off) / 2 + optim.weight_decay / 10 + run.config.seed / 1000


def pretend(run: Run, watcher: TrialWatcher | None = None) -> Ended:
    """Writes what a run writes; each step has the same score."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.json").write_text(to_json(with_defaults(run.config)))
    should_stop = watcher.open(run.folder) if watcher else lambda step, scores: False
    metrics = run.folder / "metrics.jsonl"
    done = len(metrics.read_text().splitlines()) if metrics.is_file() else 0
    for step in range(done + 1, run.config.total_steps + 1):
        scores = {METRIC: quality(run), SECOND: 1 - quality(run)}
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "time": step, **scores}) + "\n")
        if should_stop(step, scores):
            return Ended(PRUNED, 1.0)
    (run.folder / "DONE").write_text("")
    return Ended(DONE, 1.0)


def work(sweep: Sweep, home: Path, worker: str = "a") -> Counter[str]:
    """Works until nothing is left; returns how often each run began."""
    begun: Counter[str] = Counter()
    with own_folder(worker_folder(home, worker)):
        source = TrialRuns(sweep, home, worker)
        while (taken := source.next()) is not None:
            run, watcher = taken
            begun[run.place.name] += 1
            source.finish(run, pretend(run, watcher))
        assert source.left() == 0
    return begun


def test_a_search_finds_what_is_good_and_trains_each_point_once(config, tmp_path):
    sweep = load(config, method="tpe", trials=25, home=tmp_path)
    begun = work(sweep, tmp_path)
    points = collect_points(sweep, tmp_path)
    assert {p.state for p in points} == {"done"} and set(begun.values()) == {1}
    assert 20 < len(points) <= 25
    best = ranked(sweep, points)[0]
    assert 2e-4 < float(best.assignment[RATE]) < 5e-3
    shares = importance(sweep, points)
    assert shares is not None and "PED-ANOVA" in shares.method
    assert shares.shares[RATE] > shares.shares[DECAY]


def test_more_trials_go_on_and_nothing_is_asked_again(config, tmp_path):
    sweep = load(config, method="tpe", trials=3, home=tmp_path)
    assert sum(work(sweep, tmp_path).values()) == 3
    more = load(config, method="tpe", trials=5, home=tmp_path)
    assert sum(work(more, tmp_path).values()) == 2
    assert len(collect_points(more, tmp_path)) == 5


def test_a_worker_takes_over_the_trial_of_one_that_died(config, tmp_path):
    sweep = load(config, method="tpe", trials=2, home=tmp_path)
    with own_folder(worker_folder(tmp_path, "dead")):
        source = TrialRuns(sweep, tmp_path, "dead")
        run, _ = source.next() or pytest.fail("no run")
        with own_folder(worker_folder(tmp_path, "alive")):
            other = TrialRuns(sweep, tmp_path, "alive")
            second, _ = other.next() or pytest.fail("no run")
            assert second.place != run.place and other.next() is None
            other.finish(second, pretend(second))
            assert other.left() == 1  # it waits for the trial of the other worker
    begun = work(sweep, tmp_path, "next")
    assert begun == {run.place.name: 1}


def test_a_stopped_run_stays_open_and_a_failed_one_is_told(config, tmp_path):
    sweep = load(config, method="tpe", trials=2, home=tmp_path)
    with own_folder(worker_folder(tmp_path, "a")):
        source = TrialRuns(sweep, tmp_path, "a")
        first, _ = source.next() or pytest.fail("no run")
        source.finish(first, Ended(STOPPED))
        again, _ = source.next() or pytest.fail("no run")
        assert again.place == first.place
        again.failure.parent.mkdir(parents=True)
        again.failure.write_text("out of memory")
        source.finish(again, Ended(FAILED, error="out of memory"))
    assert work(sweep, tmp_path)[first.place.name] == 0
    states = {p.state: p.reason for p in collect_points(sweep, tmp_path)}
    assert states["failed"] == "out of memory" and "done" in states
    with own_folder(worker_folder(tmp_path, "b")):
        source = TrialRuns(sweep, tmp_path, "b")
        source.retry_failed()
        assert source.left() == 1
    assert work(sweep, tmp_path)[first.place.name] == 1
    assert [p.state for p in collect_points(sweep, tmp_path)] == ["done", "done"]


@pytest.mark.parametrize("rule", ["asha", "hyperband", "median"])
def test_rules_stop_bad_runs_and_never_the_best(config, tmp_path, rule):
    sweep = load(
        config, "total_steps=10", method="random", trials=16, prune=rule, home=tmp_path
    )
    work(sweep, tmp_path)
    points = collect_points(sweep, tmp_path)
    assert len(points) == 16
    stopped = [p for p in points if p.state == "stopped early"]
    done = ranked(sweep, points)
    assert 2 <= len(stopped) < 16 and len(stopped) + len(done) == 16
    best = max(p.curve[-1][1] for p in points)
    assert done[0].values[0] == pytest.approx(best)
    assert all("at step" in p.reason for p in stopped)


def test_successive_halving_promotes_a_run_from_its_checkpoint(config, tmp_path):
    """The worst points come last, so that the early ones become the best third."""
    good = "7e-4,1e-3,9e-4,2e-3,5e-4,1e-5,2e-5,9e-2,8e-2"
    sweep = load(
        config, f"{RATE}={good}", f"{DECAY}=0", "total_steps=10", prune="asha",
        home=tmp_path,
    )  # fmt: skip
    assert rungs(sweep) == [1, 3, 9]
    begun = work(sweep, tmp_path)
    assert len(begun) == 9 and max(begun.values()) > 1
    states = {p.assignment[RATE]: p.state for p in collect_points(sweep, tmp_path)}
    assert states["1e-3"] == "done"
    assert states["9e-2"] == states["1e-5"] == "stopped early"
    for place in Path(tmp_path / "points").iterdir():
        steps = [
            json.loads(line)["step"]
            for line in (place / "metrics.jsonl").read_text().splitlines()
        ]
        assert steps == sorted(set(steps))  # it went on, it did not begin anew


def test_wilcoxon_stops_a_point_between_its_seeds(config, tmp_path):
    sweep = load(
        config, f"{RATE}=1e-3,1e-5", f"{DECAY}=0", seeds=8, prune="wilcoxon",
        home=tmp_path,
    )  # fmt: skip
    begun = work(sweep, tmp_path)
    good, bad = collect_points(sweep, tmp_path)
    assert (good.state, bad.state) == ("done", "stopped early")
    assert 8 + 4 <= len(begun) < 16


def test_two_metrics_have_a_front(config, tmp_path):
    sweep = load(
        config, method="nsga2", trials=12, metric=[METRIC, SECOND], home=tmp_path
    )
    work(sweep, tmp_path)
    points = collect_points(sweep, tmp_path)
    assert len(pareto_front(sweep, points)) == len(ranked(sweep, points))


def test_gaussian_process(config, tmp_path):
    pytest.importorskip("torch")
    sweep = load(config, method="gp", trials=12, home=tmp_path)
    work(sweep, tmp_path)
    best = ranked(sweep, collect_points(sweep, tmp_path))[0]
    assert 1e-4 < float(best.assignment[RATE]) < 1e-2


def test_the_length_does_not_count_with_open_schedules(config, tmp_path):
    constant = "optim.learning_rate={'schedule': 'constant', 'value': 1e-3}"
    sweeps = [
        load_sweep(
            config,
            typed_items([f"{DECAY}=0,0.1", constant, f"total_steps={steps}"]),
            {"schedule": kind},
        )
        for kind in ("open", "fixed")
        for steps in (4, 8)
    ]
    places = [s.runs(s.assignments()[0], tmp_path)[0].place for s in sweeps]
    assert places[0] == places[1] and len(set(places)) == 3
