"""Files of tokenizers: transformers builds the same ids from them."""

import json

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.interop.exports.folder import write_folder
from clipin_jax.interop.exports.tokenizer_files import tokenizer_files
from tests.data.text.test_sentence_piece import train
from tests.support.trained_models import SMALL, TEXTS, trained_model_of


def written(folder, *overrides, inputs=("input_ids", "attention_mask")):
    model = trained_model_of("clip:runlocal", *SMALL, *overrides)
    write_folder(folder, tokenizer_files(model, inputs))
    return model


@pytest.mark.parametrize("name", ["bpe", "wordpiece"])
def test_ids_are_ours(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    model = written(tmp_path / "out", f"data.tokenizer.name={name}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = [*TEXTS, "word " * 40]  # the last one is cut
    rows = tokenizer(texts, padding="max_length", truncation=True)["input_ids"]
    for theirs, ours in zip(rows, model.tokenizer(texts).tolist(), strict=True):
        end = ours.index(model.tokenizer.end) + 1
        assert theirs[:end] == ours[:end] and len(theirs) == len(ours)


def test_inputs_are_those_of_the_model(tmp_path):
    written(tmp_path / "out", inputs=("input_ids",))
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["model_input_names"] == ["input_ids"]
    assert config["model_max_length"] == 16


def test_the_model_file_of_sentence_pieces_is_copied(tmp_path):
    file = train(tmp_path)
    tokenizer = f"data.tokenizer={{'name': 'sentencepiece', 'model': '{file}'}}"
    written(tmp_path / "out", tokenizer)
    copied = (tmp_path / "out" / "spiece.model").read_bytes()
    assert copied == (tmp_path / "sentencepiece.model").read_bytes()


def test_other_tokenizers_must_be_left_out():
    model = trained_model_of("clip:runlocal", *SMALL)
    config = model.config.copy_and_resolve_references()
    config.data.tokenizer.name = "birds.text:Letters"
    other = type(model)(config, model.variables, model.facts)
    with pytest.raises(ClipinError, match="only for bpe, wordpiece.*--no-tokenizer"):
        tokenizer_files(other, ["input_ids"])
    without = type(model)(config, model.variables, model.facts, with_tokenizer=False)
    assert tokenizer_files(without, ["input_ids"]) == {}
