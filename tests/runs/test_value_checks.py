"""Values that make no sense are refused, or a warning."""

import jax
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.value_checks import check_values
from tests.support.tiny import tiny_config

CONTRASTIVE = "objectives.contrastive"
LINEAR = "{'schedule': 'linear', 'start': 1e-3, 'end': %s, 'total_steps': 20}"


def check(*overrides: str) -> None:
    config = tiny_config("mesh.data=1", *overrides)
    check_values(build_experiment(config, devices=jax.devices()[:1]))


def test_a_config_that_makes_sense_is_silent(caplog):
    check()
    assert not caplog.records


@pytest.mark.parametrize(
    "override, words",
    [
        ("batch_size=1", ["batch_size is 1", "objectives.contrastive"]),
        ("optim.learning_rate=-0.1", ["optim.learning_rate is -0.1", "at step 0"]),
        (f"optim.learning_rate={LINEAR % -1.0}", ["optim.learning_rate", "at step"]),
        ("optim.learning_rate.peak=-0.1", ["optim.learning_rate", "at least 0"]),
        ("optim.weight_decay=-0.1", ["optim.weight_decay is -0.1"]),
        ("target.decay=1.5", ["target.decay is 1.5", "from 0 to 1"]),
        ("target.decay=-0.5", ["target.decay is -0.5"]),
        ("model.dtype=bf16", ["model.dtype is 'bf16'", "did you mean 'bfloat16'"]),
        ("model.dtype=int32", ["model.dtype is 'int32'", "known: bfloat16, float16"]),
        ("model.param_dtype=half", ["model.param_dtype is 'half'"]),
        ("model.dtype=float16", ["model.dtype is 'float16'", "CPUs"]),
        ("optim.no_decay=('bais$',)", ["optim.no_decay", "'bais$' matches no"]),
        ("optim.no_decay=('bias(',)", ["optim.no_decay", "not a regular expression"]),
        ("optim.bounds=(('scael', 0, 1),)", ["optim.bounds", "matches no parameter"]),
        ("optim.groups=(('scael', {'freeze': True}),)", ["optim.groups[0]"]),
        (
            "sharding.rules=(('(', 'replicate'),)",
            ["sharding.rules", "not a regular expr"],
        ),
        ("sharding.rules=(1,)", ["sharding.rules has 1", "pairs (pattern, rule)"]),
        ("sharding.rules=('.*', 'replicate')", ["sharding.rules has '.*'", "pairs"]),
        ("sharding.preset=zero2", ["sharding.preset is 'zero2'", "mean 'zero1'"]),
        ("model.embed_dim=-3", ["model.embed_dim is -3", "0 for none"]),
        ("model.pre_projector=-1", ["model.pre_projector is -1", "0 for none"]),
        (f"{CONTRASTIVE}.init_temperature=0", [f"{CONTRASTIVE}.init_", "above 0"]),
        (f"{CONTRASTIVE}.init_temperature=-1", [f"{CONTRASTIVE}.init_", "is -1"]),
        ("optim.b1=1", ["optim.b1 is 1", "at least 0 and below 1"]),
        ("optim.b2=2", ["optim.b2 is 2", "below 1"]),
        ("model.image.image_size=(-32, 32)", ["model.image.image_size", "above 0"]),
        ("model.text.context_length=0", ["model.text.context_length is 0"]),
        ("model.image.patch_size=0", ["model.image.patch_size is (0, 0)"]),
        ("model.image.depth=-1", ["model.image.depth is -1", "above 0"]),
        ("model.text.mlp_ratio=0", ["model.text.mlp_ratio is 0"]),
        ("model.remat.image=some", ["is 'some'", "known: dots, dots_no_batch, full"]),
        ("model.image.norm_eps=-1", ["model.image.norm_eps is -1", "above 0"]),
        ("model.image_std=(0, 0, 0)", ["model.image_std", "above 0"]),
        ("model.image_mean=(123.7, 116.3, 103.5)", ["model.image_mean", "0 to 1"]),
        ("model.embed_dim=0", [f"{CONTRASTIVE} needs the joint space"]),
        ("checkpoint.every_steps=-1", ["checkpoint.every_steps is -1"]),
        ("checkpoint.keep_every_steps=-2", ["checkpoint.keep_every_steps is -2"]),
        ("optim.learning_rate.warmup_steps=-1", ["learning_rate.warmup_steps is -1"]),
        (f"{CONTRASTIVE}.label_smoothing=2", ["label_smoothing is 2", "from 0 to 1"]),
        ("objectives.clipin.projection_dim=0", ["projection_dim is 0", "least 1"]),
        ("optim.learning_rate.total_steps=0", ["total_steps is 0"]),
        (f"target.decay={LINEAR % 0.5}".replace("20", "0"), ["decay.total_steps is 0"]),
        (f"{CONTRASTIVE}.weight=1e400", [f"{CONTRASTIVE}.weight is inf", "finite"]),
        ("optim.eps=-1", ["optim.name 'adamw'", "does not descend"]),
    ],
)
def test_what_cannot_be_meant_is_refused(override, words):
    with pytest.raises(ClipinError) as error:
        check(override)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override, words",
    [
        ("optim.learning_rate.warmup_steps=50", ["warmup_steps is 50", "20 steps"]),
        ("optim.learning_rate=0.0", ["optim.learning_rate is 0 in every step"]),
        ("optim.weight_decay=2", ["optim.weight_decay is 2", "usual values"]),
        (f"{CONTRASTIVE}.weight=-1", [f"{CONTRASTIVE}.weight is -1", "raised"]),
        (f"{CONTRASTIVE}.weight=0", [f"{CONTRASTIVE}.weight is 0", "nothing"]),
        (f"target.decay={LINEAR % 0.5}".replace("20", "7"), ["target.decay.total_ste"]),
        ("checkpoint.every_steps=21", ["checkpoint.every_steps is 21", "20 steps"]),
        ("evals.retrieval.every_steps=30", ["evals.retrieval.every_steps is 30"]),
        ("log_every_steps=30", ["log_every_steps is 30", "only the last"]),
    ],
)
def test_what_is_odd_is_a_warning(override, words, caplog):
    check(override)
    [record] = caplog.records
    assert all(word in record.getMessage() for word in words), record.getMessage()


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 1_790_000_000_123_456_789])
def test_seeds_of_any_size_are_taken(seed):
    config = tiny_config(f"seed={seed}")
    hyper = build_experiment(config, devices=jax.devices()[:1]).hyper
    assert hyper(0)["seed"].dtype == "uint32"
    assert (int(hyper(0)["seed"]) == seed) == (seed < 2**32)
