"""`clipin data` needs the training data alone, and checks that of evals if it can."""

import pytest

from clipin_jax.commands.main import main

SCENES = "data.source={'name': 'scenes', 'split': 'train', 'length': 64, 'size': 32}"


@pytest.mark.parametrize(
    "argv",
    [
        ["check", "clip", SCENES, "--records", "8"],
        ["bench", "clip", SCENES, "--seconds", "0.05", "--workers", "0"],
        ["convert", "clip", "OUT", SCENES, "--to", "webdataset"],
    ],
    ids=lambda argv: argv[0],
)
def test_no_folder_of_evaluations_is_needed(argv, tmp_path, capsys):
    argv = [str(tmp_path / "out") if word == "OUT" else word for word in argv]
    assert main(["data", *argv, "batch_size=8"]) == 0
    assert "error" not in capsys.readouterr().err


def test_the_data_of_evaluations_is_checked_where_it_is_named(capsys):
    argv = ["data", "check", "clip", SCENES, "--records", "8", "batch_size=8"]
    assert main([*argv, "evals.retrieval.source.folder=/nowhere"]) == 78
    shown = capsys.readouterr()
    assert "/nowhere" in shown.out + shown.err


@pytest.mark.parametrize(
    "override, words",
    [
        ("data.source.lenght=3", "'data.source.length'"),
        ("evals.retrieval.sorce=3", "'evals.retrieval.source'"),
        ("data=3", "data is a group"),
    ],
)
def test_wrong_keys_are_named(override, words, capsys):
    assert main(["data", "check", "clip", SCENES, override]) == 78
    assert words in capsys.readouterr().err


def test_the_folder_of_training_is_needed(capsys):
    assert main(["data", "check", "clip"]) == 78
    assert "needs a value for data.source.folder" in capsys.readouterr().err


def test_unknown_keys_of_a_page_are_named(tmp_path, capsys):
    page = tmp_path / "page.py"
    page.write_text(
        "from clipin_jax.config import load_config\n\n"
        "def get_config(arg):\n"
        "    config = load_config('clip:runlocal').unlock()\n"
        "    config.data.augment.flipp = 0.5\n"
        "    return config\n"
    )
    assert main(["data", "check", str(page), "--records", "8"]) == 78
    assert "'data.augment.flip'" in capsys.readouterr().err
