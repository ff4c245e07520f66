"""The benchmark of the input: it runs, and times the views that it compares."""

import json
import os

import numpy as np

from clipin_jax.data.image import views


def test_the_last_line_is_one_json_object(bench, capsys):
    small = ["--images", "6", "--rounds", "2", "--height", "240", "--width", "320"]
    cores = os.sched_getaffinity(0)
    bench("data").main(small)
    assert os.sched_getaffinity(0) == cores
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["rounds"] == 2 and 0 < result["levels_from_pillow"] < 10
    for name in ("host_over_pillow", "device_over_pillow", "host_over_open_clip"):
        assert result[name] > 1
        assert len(cores) == 1 or result["two_cores"][name] > 0
    for name in ("host", "device", "pillow", "open_clip", "floor", "views"):
        assert result["images_per_second"][name] > 0
    assert any(line.startswith("time of host by stage: floor") for line in lines)


def test_generated_photographs_are_the_same_in_every_run(bench):
    make = bench("data").Photographs
    first, again = make(4, 60, 80, 8.0), make(4, 60, 80, 8.0)
    assert first.files == again.files and first[1]["captions"] == again[1]["captions"]
    assert len(set(first.files)) == 4


def test_pillow_views_apply_the_drawn_operations(bench):
    source = bench("data").Photographs(1, 480, 640, 0.0)
    pillow = bench("pillow_views")
    drawn = views.ViewParameters(10, 20, 190, 200, flip=True, brightness=1.1)
    squashed = np.asarray(pillow.decode(source.files[0]).resize((224, 224)))
    ours = views.apply_view(squashed, drawn, (224, 224))
    theirs = pillow.released_view(source.files[0], drawn)
    assert np.abs(ours.astype(int) - theirs).mean() < 1
    [first, second] = pillow.ReleasedViews(source.files)(0)
    assert first.shape == second.shape == (3, 224, 224) and first.dtype == np.float32
    assert (first != second).any()
    assert pillow.OpenClipView(source.files)(0).shape == (3, 224, 224)
