import jax
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.runs.build import build_experiment
from tests.support.tiny import tiny_config


def test_everything_is_built_before_the_first_array():
    built = build_experiment(
        tiny_config("mesh.fsdp=2", "sharding.preset=fsdp", "sharding.min_mib=0")
    )
    assert dict(built.mesh.shape) == {"dcn": 1, "data": 4, "fsdp": 2}
    leaves = jax.tree.leaves(built.abstract_state)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    towers = built.abstract_state.params["towers"]
    split = towers["text"]["token_embedding"]["embedding"].sharding
    assert split.spec == jax.sharding.PartitionSpec("fsdp", None)
    assert built.state_sharding.step.is_fully_replicated
    online = jax.tree.leaves(built.abstract_state.params)
    assert built.num_params == sum(leaf.size for leaf in online)
    early, late = (built.hyper(step)["optim"]["learning_rate"] for step in (0, 4))
    assert float(late) == pytest.approx(5 * float(early))  # 5 steps of warmup


@pytest.mark.parametrize(
    "override, message",
    [
        ("batch_size=12", "batch_size = 12 .* 8 devices: use 8 or 16"),
        ("mesh.data=3", "mesh.data = 3 and mesh.fsdp = 1 do not fit 8 devices"),
        ("mesh.dcn=3", "mesh.dcn = 3 does not divide 8 devices"),
        ("total_steps=0", "total_steps is 0: it must be at least 1"),
        ("seed=-1", "seed is -1: it must be at least 0"),
    ],
)
def test_invalid_configs_are_named(override, message):
    with pytest.raises(ClipinError, match=message):
        build_experiment(tiny_config(override))


def test_a_run_from_before_slices_has_one():
    config = tiny_config()
    with config.unlocked():
        del config.mesh.dcn
    assert dict(build_experiment(config).mesh.shape) == {"dcn": 1, "data": 8, "fsdp": 1}
