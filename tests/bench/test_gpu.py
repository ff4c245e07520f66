"""The benchmark of GPUs: what it runs, and how it compares."""

import json

import pytest


def test_without_a_gpu_it_prints_its_commands(bench, capsys, monkeypatch):
    gpu = bench("gpu")
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    gpu.main([])
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {} and len(lines) == 1 + len(gpu.ROWS)
    assert "--set=micro_batches=8" in lines[3]


def test_its_rows_are_arguments_of_the_benchmark_of_steps(bench):
    gpu, step_time = bench("gpu"), bench("step_time")
    for name in gpu.ROWS:
        args = step_time.parse_args(gpu.command(name)[2:])
        config = step_time.make_config(args, clipin=False)
        assert config.model.dtype == "bfloat16" and config.batch_size >= 512
        assert config.batch_size // config.micro_batches == 512


def test_limits_are_those_of_the_device(bench):
    result = dict(
        device="NVIDIA H200", clip_images_per_second=3000.0,
        clipin_images_per_second=2500.0, torch_over_clip=1.4,
    )  # fmt: skip
    reached = [value >= least for _, value, least in bench("gpu").limits(result)]
    assert reached == [False, True, True]


def test_an_unknown_row_is_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench("gpu").main(["nothing"])
    assert "no row nothing; known: clip" in capsys.readouterr().err
