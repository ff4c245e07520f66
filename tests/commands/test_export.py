"""`clipin export`: from the folder of a run to a folder for others."""

import pytest

from clipin_jax.commands.main import main
from tests.support import tiny_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    tiny_runs.write_run(tiny_runs.tiny_run("model.embed_dim=24"), folder)
    (folder / "figures.json").write_text(
        '{"retrieval/mean_recall": {"format": "{:.1%}", "better": "higher"}}'
    )
    (folder / "eval").mkdir()
    (folder / "eval" / f"{tiny_runs.LAST}.json").write_text(
        '{"scores": {"retrieval/mean_recall": 0.25,'
        ' "retrieval/chance/mean_recall": 0.021}}'
    )
    return folder


def export(*argv):
    with tiny_runs.on_one_device():
        return main(["export", *map(str, argv)])


def test_a_folder_with_a_card(run, tmp_path, capsys):
    out = tmp_path / "sub" / "out"
    at = f"{run}@{tiny_runs.LAST}"
    assert export(at, out, "--to", "huggingface", "--license", "mit") == 0
    printed = capsys.readouterr().out
    assert "left out: clipin" in printed and "config.json, model.safetensors" in printed
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: transformers\n")
    assert "pipeline_tag: zero-shot-image-classification" in card
    assert "| retrieval/mean_recall | 25.0% | 2.1% |" in card
    command = f"clipin export first@{tiny_runs.LAST} out --to huggingface --license mit"
    assert f"`{command}`" in card and str(run.parent) not in card
    assert 'from_pretrained("out")' in card and "Not stated yet" not in card
    assert {path.name for path in out.iterdir()} >= {"vocab.json", "merges.txt"}


def test_without_a_tokenizer(run, tmp_path):
    out = tmp_path / "out"
    assert export(run, out, "--to", "huggingface", "--no-tokenizer") == 0
    assert not (out / "vocab.json").exists()
    assert "fill in `license`" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("{run}", "{tmp}", "--to", "open_clip"), "is there already"),
        (("{run}@3", "{tmp}/out", "--to", "open_clip"), "3"),
        (("{tmp}/none", "{tmp}/out", "--to", "open_clip"), "none"),
        (("{run}", "{tmp}/out", "--to", "big_vision"), "cannot hold this model"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, capsys, argv, message):
    (tmp_path / "mine").touch()
    assert export(*(x.format(run=run, tmp=tmp_path) for x in argv)) == 78
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_unknown_format_ends_with_the_usage(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export(run, tmp_path / "out", "--to", "caffe")
    assert "invalid choice: 'caffe'" in capsys.readouterr().err
