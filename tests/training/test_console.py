from types import SimpleNamespace
from typing import Any

import jax
import pytest

from clipin_jax.config import load_config
from clipin_jax.evaluators.base import Figure, shown_figures
from clipin_jax.evaluators.compositionality import Compositionality
from clipin_jax.evaluators.localization import Localization
from clipin_jax.evaluators.retrieval import Retrieval
from clipin_jax.evaluators.text_similarity import TextSimilarity
from clipin_jax.evaluators.zero_shot import ZeroShot
from clipin_jax.runs.build import build_experiment
from clipin_jax.training import console
from tests.support.tiny import tiny_config


@pytest.fixture(scope="module")
def built():
    return build_experiment(tiny_config("total_steps=1200", "batch_size=16"))


def test_the_banner_names_what_matters(built):
    text = console.banner(built, "runs/mine", 256, step=0)
    expected = {
        "model": "vit 2x32 at 32x32, text_transformer 2x32, "
        f"{built.num_params / 1e6:.1f}M parameters",
        "objectives": "clipin, contrastive",
        "devices": "8 x cpu, mesh dcn 1 x data 8 x fsdp 1, processes 1",
        "data": "scenes, 256 examples per epoch",
        "schedule": "1,200 steps of 16 pairs = 75 epochs, peak learning rate 0.0005",
        "chance": "a model that knows nothing has a contrastive loss of ln(16) = 2.773",
        "run": "runs/mine",
    }
    title, *lines = text.splitlines()
    assert title == "clipin: clip_clipin"
    assert dict(line.split(maxsplit=1) for line in lines) == expected
    assert max(map(len, lines)) <= 88


def test_the_banner_says_how_many_parameters_are_trained():
    frozen = "optim.groups=(('^towers/text/', {'freeze': True}),)"
    built = build_experiment(tiny_config("batch_size=16", frozen))
    assert built.num_trained == sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            built.abstract_state.params
        )
        if "['towers']['text']" not in jax.tree_util.keystr(path)
    )
    millions = (built.num_trained / 1e6, built.num_params / 1e6)
    expected = "{:.1f}M of {:.1f}M parameters trained".format(*millions)
    assert expected in console.banner(built, "runs/mine", 256, step=0)


def test_the_banner_of_a_resumed_run(built):
    text = console.banner(built, "runs/mine", 256, step=1000)
    assert text.endswith("runs/mine, resumed at step 1,000")


@pytest.mark.parametrize(
    "rate, shown",
    [
        ("1e-4", "peak learning rate 0.0001"),
        (
            "{'schedule': 'cosine', 'start': 0.1, 'end': 0.0, 'total_steps': 9}",
            "peak learning rate 0.1",
        ),
        ("{'schedule': 'constant', 'value': 0.2}", "peak learning rate 0.2"),
    ],
)
def test_the_peak_of_any_schedule(rate, shown):
    config = load_config("clip:runlocal", [f"optim.learning_rate={rate}"])
    assert shown in console.banner(build_experiment(config), "x", 256, step=0)


def test_scores_are_shown_with_chance_beside_them():
    values = {
        "retrieval/text_to_image_R@1": 0.25,
        "retrieval/chance/text_to_image_R@1": 0.004,
        "retrieval/text_to_image_median_rank": 7.5,
        "mine/macro_auc": 0.5,
        "mine/something_else": 3.0,
        "sts/spearman": 0.5,
        "sts/chance/spearman": 0.0,
        "order/group_score": 0.25,
        "order/chance/group_score": 1 / 6,
        "maps/pointing_game": 0.5,
        "theirs/brightness": 12.345,
        "theirs/chance/brightness": 10.0,
        "theirs/darkness": 0.5,
    }
    evaluators: Any = {
        "retrieval": Retrieval,
        "mine": ZeroShot,
        "sts": TextSimilarity,
        "order": Compositionality,
        "maps": Localization,
        "theirs": SimpleNamespace(figures={"bright*": Figure("{:.1f} lux")}),
    }
    figures = shown_figures(evaluators, values)
    assert console.scores(values, figures).splitlines() == [
        "  retrieval/text_to_image_R@1                25.0%  (chance 0.4%)",
        "  retrieval/text_to_image_median_rank          7.5",
        "  mine/macro_auc                             0.500",
        "  sts/spearman                               0.500  (chance 0.000)",
        "  order/group_score                          25.0%  (chance 16.7%)",
        "  maps/pointing_game                         50.0%",
        "  theirs/brightness                        12.3 lux  (chance 10.0 lux)",
    ]
    assert console.headlines(values, figures).splitlines() == [
        "  retrieval: text_to_image_R@1 25.0% (chance 0.4%)",
        "  mine: macro_auc 0.500",
        "  sts: spearman 0.500 (chance 0.000)",
        "  order: group_score 25.0% (chance 16.7%)",
        "  maps: pointing_game 50.0%",
        "  theirs: brightness 12.3 lux (chance 10.0 lux)",
    ]
