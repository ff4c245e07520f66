import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.runs.checkpoint_tools.saved_checkpoint import open_checkpoint
from tests.support.saved_runs import save_run, small_state
from tests.support.tiny import tiny_config


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """A run with checkpoints 2 and 4. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    states = {step: small_state(step) for step in (2, 4)}
    return str(save_run(folder, tiny_config(), states))


def test_inspect_lists_steps_parts_and_arrays(run, capsys):
    assert main(["checkpoint", "inspect", run, "--pattern", "kernel"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{run}: step 4",
        "checkpoints at steps 2, 4",
        "",
        "part           arrays  numbers  bytes",
        "collections         1        4     16",
        "opt_state           1       24     96",
        "params              1       24     96",
        "counters            1        1      4",
        "target_params       1       24     96",
        "total               5       77    308",
        "",
        "array                 shape   dtype    bytes",
        "opt_state/mu/kernel   [6, 4]  float32     96",
        "params/kernel         [6, 4]  float32     96",
        "target_params/kernel  [6, 4]  float32     96",
    ]


def test_inspect_as_json(run, capsys):
    argv = ["checkpoint", "inspect", f"{run}@2", "--json", "--pattern", "^params/"]
    assert main(argv) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.pop("parts")["params"] == {"arrays": 1, "numbers": 24, "bytes": 96}
    array = {"dtype": "float32", "shape": [6, 4], "bytes": 96}
    assert record == {
        "run": run, "step": 2, "steps": [2, 4], "sources": [],
        "arrays": {"params/kernel": array},
    }  # fmt: skip


def test_inspect_starts_no_devices_and_builds_no_model(run):
    code = (
        "import sys; from clipin_jax.commands.main import main\n"
        f"assert main(['checkpoint', 'inspect', {run!r}]) == 0\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
        "assert 'clipin_jax.core.learner' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_diff_tells_what_differs_by_its_exit_code(run, capsys, tmp_path):
    assert main(["checkpoint", "diff", run, f"{run}@4"]) == 0
    equal = f"{run}@4 and {run}@4 are equal: 5 arrays, and the configs\n"
    assert capsys.readouterr().out == equal
    state = small_state(4, bias=np.zeros(2, np.float32))
    del state["opt_state/mu/kernel"]
    state["params/kernel"] = -state["params/kernel"]
    state["target_params/kernel"] = np.zeros(3)
    other = str(save_run(tmp_path / "b", tiny_config("seed=3"), {4: state}))
    assert main(["checkpoint", "diff", run, other]) == 1
    out = capsys.readouterr().out
    a, b = f"{run}@4", f"{other}@4"
    config, only_a, only_b, forms, count, values = out.split("\n\n")
    assert config.split() == ["config", a, b, "seed", "0", "3"]
    assert only_a == f"only in {a}: 1 arrays\n  opt_state/"
    assert only_b == f"only in {b}: 1 arrays\n  params/bias"
    assert forms.split() == (
        ["other", "form", a, b, "target_params/kernel"]
        + ["float32[6,", "4]", "float64[3]"]
    )
    assert count == "values: 2 arrays equal, 1 differ"
    assert values.split()[-2:] == ["params/kernel", "2"]


def test_diff_of_chosen_arrays(run, capsys):
    argv = ["checkpoint", "diff", f"{run}@2", run, "--pattern", "^params/"]
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert "values: 0 arrays equal, 1 differ" in out and "step" not in out


def test_average_writes_a_run(run, capsys, tmp_path):
    out = str(tmp_path / "soup")
    argv = ["checkpoint", "average", out, f"{run}@2", run, "--weights", "1,3"]
    assert main(argv) == 0
    assert f"written to {out}, at step 2" in capsys.readouterr().out
    assert "opt_state/mu/kernel" not in open_checkpoint(out).arrays
    assert main(["checkpoint", "inspect", out]) == 0
    mean = f"the mean of {run}@2 (weight 0.25), {run}@4 (weight 0.75)\n"
    assert mean in capsys.readouterr().out
    assert main(argv) == 78
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, words",
    [
        (["inspect", "RUN@3"], "no checkpoint of step 3"),
        (["inspect", "RUN@last"], "STEP is a whole number"),
        (["inspect", "nowhere"], "no run folder"),
        (["inspect", "RUN", "--pattern", "("], "not a regular expression"),
        (["diff", "RUN", "RUN", "--pattern", "karnel"], "matches no parameter"),
        (["average", "/tmp", "RUN"], "/tmp exists"),
        (["average", "/dev/null/soup", "RUN"], "cannot write /dev/null/soup"),
    ],
)
def test_a_mistake_is_one_line(run, argv, words, capsys):
    argv = [word.replace("RUN", run) for word in argv]
    assert main(["checkpoint", *argv]) == 78
    captured = capsys.readouterr()
    assert captured.err.startswith("clipin: error: ") and words in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [["inspect"], ["diff", "a"], ["average", "out"]]
    + [["average", "out", "a", "--weights", "x"], ["merge", "a"]],
)
def test_a_wrong_command_line_ends_with_usage(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["checkpoint", *argv])
    assert stopped.value.code == 2
    assert "usage: clipin checkpoint" in capsys.readouterr().err
