"""The benchmark of embedding: its figures, and its bounds by the processor's time."""

import json
import sys

import pytest


@pytest.mark.slow
def test_embedding_costs_little_beside_decode_and_tower(bench, capsys):
    bench("embed").main(["quickstart", "--quick"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["config"] == "quickstart"
    assert result["embed_over_both_cpu"] > 0.8
    assert 0 < result["warm_load_cpu_seconds"] < 5


def test_ratios_are_medians_of_rounds(bench):
    seconds = {"tower": [1.0, 2.0, 1.0], "decode": [4.0, 4.0, 5.0]}
    times = seconds | {"embed": [5.0, 5.0, 5.0]}
    result = bench("embed").summary(times, times, 10)
    assert result["embed_over_slower"] == 0.8
    assert result["embed_over_both"] == result["embed_over_both_cpu"] == 1.2
    assert result["tower_images_per_second"] == 10
    assert result["decode_images_per_second"] == 2.5


def test_a_load_that_fails_says_why(bench, tmp_path):
    with pytest.raises(SystemExit, match="no_such_module"):
        bench("embed").run_load([sys.executable, "-c", "import no_such_module"], None)
