"""A sweep from the command line or a file: what is refused before anything runs."""

from pathlib import Path

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.sweep.definition import Sweep, open_home, read_sweep
from clipin_jax.sweep.sweep_file import load_sweep, typed_items
from tests.support.tiny_sweep import DECAY, METRIC, RATE, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    return str(write_config(tmp_path_factory.mktemp("sweep_configs")))


def load(config: str, *items: str, **options) -> Sweep:
    return load_sweep(config, typed_items(list(items)), options)


def test_points_are_named_by_what_shapes_them(config, tmp_path):
    sweep = load(config, f"{RATE}=1e-4,1e-3", f"{DECAY}=0,0.1")
    runs = [sweep.runs(point, tmp_path)[0] for point in sweep.assignments()]
    assert len({run.folder for run in runs}) == 4
    assert runs[1].config.optim.learning_rate.peak == 1e-4
    assert runs[1].config.optim.weight_decay == 0.1
    assert runs[1].name == "learning_rate.peak=1e-4, weight_decay=0.1"
    # Free keys do not count, the order of keys neither; steps and evals do.
    other = load(config, f"{DECAY}=0,0.1", f"{RATE}=1e-3,1e-4", "log_every_steps=7")
    again = [other.runs(point, tmp_path)[0] for point in other.assignments()]
    assert {run.folder for run in again} == {run.folder for run in runs}
    longer = load(config, f"{RATE}=1e-4,1e-3", f"{DECAY}=0,0.1", "total_steps=8")
    assert longer.runs(longer.assignments()[0], tmp_path)[0].folder != runs[0].folder


def test_seeds_are_runs_of_one_point(config, tmp_path):
    sweep = load(config, f"{RATE}=1e-4,1e-3", "seed=5", seeds=3)
    runs = sweep.runs(sweep.assignments()[0], tmp_path)
    assert [run.config.seed for run in runs] == [5, 6, 7]
    assert len({run.place for run in runs}) == 3


def test_a_key_that_takes_whole_numbers_gets_them(config):
    sweep = load(config, "optim.learning_rate.warmup_steps=1..3", trials=8)
    values = {
        point["optim.learning_rate.warmup_steps"] for point in sweep.assignments()
    }
    assert values == {"1", "2", "3"}


def test_a_sweep_is_read_back_from_its_folder(config, tmp_path):
    sweep = load(config, f"{RATE}=1e-4..1e-2:log", f"{DECAY}=0,0.1", trials=4)
    open_home(sweep, tmp_path / "home")
    again = read_sweep(tmp_path / "home")
    assert again.to_json() == sweep.to_json()
    places = [
        [run.place for point in s.assignments() for run in s.runs(point, tmp_path)]
        for s in (sweep, again)
    ]
    assert places[0] == places[1]


def test_metrics_and_their_better_end(config):
    (default,) = load(config, f"{RATE}=1,2").goals
    assert default.metric.startswith("retrieval/") and default.mode == "max"
    (goal,) = load(config, f"{RATE}=1,2", metric=[f"{METRIC}:min"]).goals
    assert (goal.metric, goal.mode) == (METRIC, "min")
    assert goal.loss(2.0) > goal.loss(1.0)


FILE = """
def get_sweep(arg=None):
    return dict(
        config={config!r},
        space={{"{rate}": [1e-4, 1e-3], "{decay}": "0..0.1", "batch_size": 8}},
        method="random", trials=int(arg or 3), metric="{metric}", seeds=2,
    )
"""


def test_a_sweep_file_and_options_of_the_command(config, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(config=config, rate=RATE, decay=DECAY, metric=METRIC))
    sweep = load(f"{path}:5", method="quasi")
    assert (sweep.name, sweep.method, sweep.trials, sweep.seeds) == (
        "mine", "quasi", 5, 2,
    )  # fmt: skip
    assert sweep.base.batch_size == 8 and list(sweep.space.axes) == [RATE, DECAY]
    assert load(str(path), f"{DECAY}=0.2").space.ranges == []
    path.write_text("def get_sweep(arg):\n    return dict(confg=1)\n")
    with pytest.raises(ClipinError, match="no key 'confg': did you mean 'config'"):
        load(str(path))


@pytest.mark.parametrize(
    "items, options, message",
    [
        ([f"{RATE}=a..b"], {}, "'a' is no number"),
        ([f"{RATE}=2..1"], {"trials": 2}, "2 is not below 1"),
        (["optim.learning_rate.peek=1,2"], {}, "optim.learning_rate.peak"),
        (["optim.learning_rate.peek=1..2"], {"trials": 2}, "learning_rate.peak"),
        ([f"{RATE}=x,y"], {}, "cannot be 'x'"),
        (["batch_size=0.5..2"], {"trials": 2}, "cannot be 0.5"),
        ([], {}, "grid is empty"),
        ([f"{RATE}=1"], {"method": "random", "trials": 3}, "nothing is varied"),
        ([f"{RATE}=1..2"], {}, "quasi needs a number of points: --trials"),
        ([f"{RATE}=1..2"], {"method": "grid"}, "has a range"),
        ([f"{RATE}=1,2"], {"trials": 2}, "grid has its own number"),
        ([f"{RATE}=1,2"], {"method": "gird"}, "did you mean 'grid'"),
        ([f"{RATE}=1,2"], {"metric": ["recall"]}, "no evaluator gives the metric"),
        ([f"{RATE}=1,2"], {"metric": ["retrieval/recal"]}, "evals.retrieval has no"),
        ([f"{RATE}=1,2"], {"seeds": 0}, "--seeds is 0"),
        (["seed=1,2"], {"seeds": 2}, "both set seeds"),
        ([f"{RATE}=1,2"], {"schedule": "free"}, "--schedule is 'free'"),
        ([f"{RATE}=1,2"], {"schedule": "open"}, "looks at the end"),
        ([f"{RATE}=1,2"], {"prune": "ash"}, "did you mean 'asha'"),
        ([f"{RATE}=1,2"], {"prune": "asha", "seeds": 2}, "leave out --seeds"),
        ([f"{RATE}=1,2"], {"prune": "wilcoxon", "seeds": 2}, "give --seeds 5"),
        (["total_steps=4,8"], {"prune": "asha"}, "schedules other lengths"),
        (
            [f"{RATE}=1,2", "evals.retrieval.every_steps=0"],
            {"prune": "median"},
            "set evals.retrieval.every_steps",
        ),
        ([f"{RATE}=1..2"], {"trials": 2, "method": "nsga2"}, "give --metric twice"),
    ],
)
def test_wrong_input_is_one_line(config, items, options, message):
    with pytest.raises(ClipinError, match=message) as error:
        load(config, *items, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("package, method", [("optuna", "tpe"), ("torch", "gp")])
def test_absent_packages_are_one_line(config, monkeypatch, package, method):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == package else find(name),
    )
    with pytest.raises(ClipinError, match=f"{method} needs {package}.*pip install"):
        load(config, f"{RATE}=1..2", method=method, trials=3)
    load(config, f"{RATE}=1..2", method="random", trials=3)


def test_a_folder_of_another_sweep_is_refused(config, tmp_path):
    space = f"{RATE}=1e-4..1e-2:log"
    searched = load(config, space, method="tpe", trials=3)
    open_home(searched, tmp_path)
    open_home(load(config, space, method="tpe", trials=5), tmp_path)  # goes on
    wider = load(config, f"{RATE}=1e-5..1e-2:log", method="tpe", trials=3)
    with pytest.raises(ClipinError, match="another sweep|another keys or ranges"):
        open_home(wider, tmp_path)
    listed = tmp_path / "listed"
    open_home(load(config, f"{RATE}=1e-4,1e-3"), listed)
    open_home(load(config, f"{RATE}=1e-4,1e-3,1e-2"), listed)
    with pytest.raises(ClipinError, match="another metric"):
        open_home(load(config, f"{RATE}=1,2", metric=[f"{METRIC}:min"]), listed)
    with pytest.raises(ClipinError, match="no folder of a sweep"):
        read_sweep(Path("nowhere"))
