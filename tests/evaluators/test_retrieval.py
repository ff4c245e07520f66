from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.data import make_source
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.inference.build import make_encoder
from clipin_jax.runs.build import build_experiment
from tests.support.in_memory import Images, function_encoder, gray_images

ONE_HOT = SimpleNamespace(variables={"scale": jnp.ones(())})


def encode_code(variables, code):
    row = jax.nn.one_hot(code, 64) * variables["scale"]
    return {"pooled": row, "embedding": row}


@pytest.fixture(scope="module")
def encoder():
    return function_encoder(
        image=lambda variables, image: encode_code(variables, image[:, 0, 0, 0]),
        text=lambda variables, ids: encode_code(variables, ids[:, 0]),
    )


def images(codes: list[list[int]]) -> Images:
    return gray_images([f"image {code}" for code in own] for own in codes)


def test_perfect_retrieval(encoder):
    source = images([[i, i] for i in range(19)])
    values = dict(Retrieval(encoder, source=source, batch_size=8).run(ONE_HOT))
    assert values["image_to_text_R@1"] == values["text_to_image_R@1"] == 1
    assert values["mean_recall"] == 1
    assert values["text_to_image_median_rank"] == 1
    assert values["chance/text_to_image_R@1"] == pytest.approx(1 / 19)
    assert values["chance/image_to_text_R@1"] == pytest.approx(2 / 38)
    assert values["chance/text_to_image_median_rank"] == 10
    assert all(type(v) is float for v in values.values())


def test_any_own_caption_is_a_hit_for_its_image(encoder):
    source = images([[i, 60] for i in range(9)])
    retrieval = Retrieval(encoder, source=source, batch_size=16)
    values = dict(retrieval.run(ONE_HOT))
    assert values["image_to_text_R@1"] == 1
    # The second caption is that of all images: any image matches it.
    assert values["text_to_image_R@1"] == 1
    assert values["chance/text_to_image_R@1"] == pytest.approx((1 / 9 + 1) / 2)
    # By the strict rule each has one image, all images tie, and so it comes last.
    for k in (1, 5):
        assert values[f"strict/text_to_image_R@{k}"] == 0.5
    assert values["ceiling/strict/text_to_image_R@1"] == pytest.approx(5 / 9)
    assert "ceiling/strict/image_to_text_R@1" not in values  # it is 1
    assert retrieval.benchmark_keys["image_retrieval_recall@1"].startswith("strict/")
    first = dict(
        Retrieval(encoder, source=source, batch_size=16, max_captions=1).run(ONE_HOT)
    )
    assert first["text_to_image_R@1"] == 1
    assert first["chance/image_to_text_R@1"] == pytest.approx(1 / 9)


def test_a_collapsed_model_scores_zero(encoder):
    source = images([[i] for i in range(12)])
    collapsed = SimpleNamespace(variables={"scale": jnp.zeros(())})
    values = dict(Retrieval(encoder, source=source, batch_size=8).run(collapsed))
    assert values["text_to_image_R@10"] == values["image_to_text_R@10"] == 0
    assert values["text_to_image_median_rank"] == 12
    assert values["chance/text_to_image_median_rank"] == 6


def test_examples_show_the_best_and_the_worst(encoder):
    source = gray_images([*([f"image {i}"] for i in range(10)), ["wrong 3"]])
    retrieval = Retrieval(encoder, source=source, batch_size=8)
    assert retrieval.examples == {}
    list(retrieval.run(ONE_HOT))
    worst, best = retrieval.examples["worst"][0], retrieval.examples["best"][0]
    assert (worst["image"], worst["caption"]) == (10, "wrong 3")
    assert worst["rank"] == 11 and worst["retrieved"][0] == (3, 1.0)
    assert best["rank"] == 1 and best["retrieved"][0] == (best["image"], 1.0)
    assert len({e["image"] for e in retrieval.examples["best"]}) == 4


def test_wrong_input(encoder):
    with pytest.raises(ClipinError, match="record 1, image 1, has no caption"):
        Retrieval(encoder, source=images([[0], []]))
    with pytest.raises(ClipinError, match="similarity is 'euclid'"):
        Retrieval(encoder, source=images([[0]]), similarity="euclid")


def test_a_model_that_cannot_match_is_refused(tmp_path, capsys):
    argv = ["train", "clip:runlocal", "--workdir", str(tmp_path / "run")]
    assert main([*argv, "evals.retrieval.rerank=4"]) == 78
    error = capsys.readouterr().err
    assert "objectives.matching" in error and "rerank" in error
    assert not (tmp_path / "run").exists()


def test_reranked_scores_stand_beside_the_others():
    small = ("model.image.depth=1", "batch_size=16")
    config = load_config("albef:runlocal", small)
    experiment = build_experiment(config, jax.devices()[:1])
    encoder = make_encoder(config, experiment.learner, experiment.mesh)
    source = make_source(name="scenes", split="val", length=16, size=32)
    evaluator = Retrieval(encoder, source=source, batch_size=16, rerank=4)
    values = dict(evaluator.run(experiment.init_state()))
    for name in ("image_to_text_R@5", "text_to_image_R@1", "mean_recall"):
        assert 0 <= values[name] <= 1 and 0 <= values[f"reranked/{name}"] <= 1
