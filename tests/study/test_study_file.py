"""What a study file holds: methods, levels, seeds and the configs of its runs."""

import pytest

from clipin_jax.config import list_studies
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.runs.build import build_experiment
from clipin_jax.study.study_file import PlannedRun, load_study
from tests.support.tiny_study import RUNS, STUDY


@pytest.mark.parametrize("name", list_studies())
def test_every_shipped_study_loads(name):
    study = load_study(f"{name}:seeds=2,steps=8")
    assert len(study.configs) == 2 * len(study.facts["methods"]) * len(
        study.facts["levels"]
    )
    longer = ("twice the steps", "all") if name == "strong_recipe" else ()
    for planned, config in study.configs.items():
        assert config.total_steps == (16 if planned.level in longer else 8)
        assert config.seed == planned.seed
        assert set(study.metrics) >= {"retrieval/mean_recall"}


def test_every_host_sees_the_same_images():
    """The augmentation of a host's recipe would change what captions name."""
    configs = load_study("hosts:seeds=1,steps=8").configs.values()
    augments = [config.data.augment.to_dict() for config in configs]
    for augment in augments:
        assert augment == augments[0] | dict(transforms={})


def test_one_seed_of_all_methods_runs_before_the_next(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(STUDY)
    assert list(load_study(str(path)).configs) == RUNS


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"CLIP": dict(config="clip:runlocal")', '"CLIP": dict(spec=1)', "config"),
        ('baseline="CLIP"', 'baseline="CLIPP"', "did you mean 'CLIP'"),
        ('title="A test",', "", "title is missing"),
        ("seeds=[0, 1]", "seeds=[]", "seeds is missing"),
        ('question="', 'qestion="', "no key 'qestion': did you mean 'question'"),
        ('"model.embed_dim"', '"model.embed_dims"', "did you mean 'model.embed_dim'"),
        ('"CLIP"', '"CLIP_narrow"', "would share the folder"),
        ("return dict(", "return (", "line"),
        ("def get_study", "def get_studies", "get_study"),
    ],
)
def test_errors_in_a_study_file_are_found_before_any_run(tmp_path, old, new, message):
    assert old in STUDY
    path = tmp_path / "wrong.py"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(ClipinError, match=message):
        load_study(str(path))


def test_an_unknown_study_is_refused():
    with pytest.raises(ClipinError, match="did you mean 'looseness'"):
        load_study("loosenes")


def test_runs_of_one_method_share_what_is_compiled():
    study = load_study("looseness:seeds=2,steps=8")
    planned = [
        PlannedRun("CLIPin", "0", 0),
        PlannedRun("CLIPin", "0.6", 1),
        PlannedRun("CLIP", "0", 0),
    ]
    runs = [build_experiment(study.configs[run]) for run in planned]
    steps = [make_train_step(r.learner, r.optimizer, r.views) for r in runs]
    assert steps[0] is steps[1] and steps[0] is not steps[2]
    encoders = [make_encode_fns(run.learner) for run in runs]
    assert encoders[0] is encoders[1] and encoders[0] is not encoders[2]
