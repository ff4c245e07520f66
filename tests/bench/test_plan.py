"""The benchmark of plans: its configs exist, and a row is within its limit."""

import json

import pytest

from clipin_jax.config import load_config


def test_the_configs_of_all_rows_load(bench):
    plan = bench("plan")
    for row in plan.ROWS.values():
        config = load_config(
            row.config, [*plan.COMMON, *row.overrides], without_data=True
        )
        assert config.batch_size >= 4096 and row.figure in plan.FIGURES


@pytest.mark.slow
def test_a_row_is_within_its_limit(repository):
    import subprocess
    import sys

    pytest.importorskip("libtpu")
    command = [sys.executable, "bench/plan.py", "zero1"]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    result = json.loads(ended.stdout.splitlines()[-1])["zero1"]
    assert 0 < result["arguments_gib"] <= result["limit"]
