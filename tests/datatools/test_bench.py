import json

import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.datatools.bench import Speed, bench, compare, settings, verdict
from clipin_jax.errors import ClipinError
from tests.support.pair_folders import encoded_image, pair_config, pair_folder

SPEEDS = [Speed(0, 0, 400.0), Speed(2, 0, 500.0), Speed(1, 2, 900.0)]


@pytest.fixture
def config():
    return load_config("clip:runlocal", ("batch_size=100", "data.threads=2"))


def test_how_long_a_device_would_wait(config):
    figures = compare(config, SPEEDS, step_ms=100)
    assert figures["needs_per_second"] == 1000
    assert figures["wait_fraction"] == pytest.approx(0.5)
    assert verdict(figures) == (
        "input-bound: 100 pairs in 100 ms need 1,000 records/s, the input makes 500: "
        "the device would wait 50% of the time. Faster on this machine: data.threads=1 "
        "data.processes=2, 900 records/s"
    )


def test_how_much_faster_the_input_is_than_the_device(config):
    figures = compare(config, SPEEDS, step_ms=400)
    assert figures["wait_fraction"] == 0
    assert verdict(figures) == (
        "not input-bound: 100 pairs in 400 ms need 250 records/s, the input makes 2.0 "
        "times that"
    )


def test_without_a_step_time_the_shortest_one_is_printed(config):
    figures = compare(config, SPEEDS[:2], step_ms=None)
    assert figures["shortest_step_ms"] == pytest.approx(200)
    assert verdict(figures) == (
        "fast enough for batches of 100 in steps of 200 ms or longer"
    )


def test_settings_are_powers_of_two_and_the_configured_one():
    assert settings((2, 0), 4, None) == [
        *[(0, 0), (1, 0), (2, 0), (4, 0)],
        *[(1, 1), (1, 2), (1, 4)],
    ]
    assert settings((3, 0), 1, (0,)) == [(0, 0), (1, 0), (3, 0)]
    assert settings((2, 1), 8, (3,)) == [(2, 1), (1, 3)]


def test_every_stage_and_setting_is_timed(tmp_path, capsys):
    captions = [[f"caption {n}", "a caption"] for n in range(40)]
    images = [encoded_image(n) for n in range(39)] + [b"not an image"]
    folder = pair_folder(tmp_path / "pairs", captions, images)
    config = pair_config(folder, "data.max_bad_fraction=0.5")
    assert bench(config, step_ms=50.0, seconds=0.03, workers=(0,), as_json=True) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    stages = ("read", "decode", "tokenize", "views and rest", "whole sample")
    assert tuple(figures["stages"]) == stages
    assert min(figures["stages"].values()) > 0
    tried = [(one["threads"], one["processes"]) for one in figures["pipeline"]]
    assert (config.data.threads, 0) in tried and (0, 0) in tried
    assert all(one["per_second"] > 0 for one in figures["pipeline"])
    assert f"{figures['cores']} cores" in lines[0]
    assert "input-bound" in lines[-1]


def test_invalid_arguments_are_refused(config):
    with pytest.raises(ClipinError, match="must be positive"):
        bench(config, seconds=0)
    with pytest.raises(ClipinError, match="must be positive"):
        bench(config, step_ms=-1.0)
    with pytest.raises(ClipinError, match="--workers is"):
        bench(config, workers=(-1,))


def test_data_without_pairs_is_a_one_line_error(tmp_path, capsys):
    captions = [[f"caption {n}"] for n in range(8)]
    folder = pair_folder(tmp_path / "pairs", captions, [b"not an image"] * 8)
    argv = ["data", "bench", f"clip:data={folder},small", "batch_size=4"]
    assert main(argv) == 78
    err = capsys.readouterr().err
    assert err.startswith("clipin: error: ") and err.count("\n") == 1
