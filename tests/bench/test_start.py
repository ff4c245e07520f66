"""The benchmark of starts: the second one needs less, and little enough."""

import json

import pytest


@pytest.mark.slow
def test_a_second_start_reads_what_the_first_one_has_compiled(bench, capsys):
    bench("start").main(["quickstart"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["config"] == "quickstart"
    assert 0 < result["second_cpu_seconds"] < 0.7 * result["first_cpu_seconds"]
    assert result["second_cpu_seconds"] < 15


def test_a_run_that_fails_says_why(bench, tmp_path):
    with pytest.raises(SystemExit, match="no_such_config"):
        bench("start").time_start(["no_such_config"], tmp_path / "run")
