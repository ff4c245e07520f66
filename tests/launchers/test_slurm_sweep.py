"""An array of workers of a real Slurm, which share a sweep."""

import pytest

from clipin_jax.commands.main import main
from clipin_jax.launchers import read_launch
from clipin_jax.sweep.outcomes import collect_points
from clipin_jax.sweep.sweep_file import load_sweep, typed_items
from tests.support.slurm_cluster import wait_until
from tests.support.tiny_sweep import DECAY, METRIC, RATE, ends_in_logs, write_config

pytestmark = pytest.mark.slow


def test_four_workers_of_an_array_train_each_of_16_points_once(
    slurm_clients, tmp_path, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "")
    home = tmp_path / "home"
    spec = str(write_config(tmp_path))
    axes = [f"{RATE}=1e-4,3e-4,1e-3,3e-3", f"{DECAY}=0,0.1,0.2,0.3"]
    options = ["--metric", METRIC, "--workdir", str(home), "--on", "slurm"]
    assert main(["sweep", spec, *axes, *options, "--workers", "4"]) == 0
    [array] = read_launch(str(home)).ids
    assert slurm_clients.call("squeue", "-h", "-r", "-j", array).count("\n") == 4
    wait_until(lambda: not slurm_clients.call("squeue", "-h"), 900, "the workers' end")
    sweep = load_sweep(spec, typed_items(axes), {"metric": METRIC})
    points = collect_points(sweep, home)
    assert [point.state for point in points] == ["done"] * 16
    ends = ends_in_logs(home)
    assert len(ends) == 16 and set(ends.values()) == {1}
