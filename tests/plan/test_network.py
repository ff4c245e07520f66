"""What crosses slices, in programs of CPUs and as the TPU compiler writes it."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from clipin_jax.core import sharding
from clipin_jax.plan.collectives import by_kind
from clipin_jax.plan.device_groups import device_groups
from clipin_jax.plan.network import find_transfers
from clipin_jax.plan.program import Instruction, Program

SIDE = 64
BYTES = SIDE * SIDE * 4


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(data=2, fsdp=2, devices=jax.devices()[:8], dcn=2)


def transfers(mesh, function, inputs, outputs):
    """Returns kind and bytes of each transfer of a function of a square matrix."""
    split = jax.shard_map(
        function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
    )
    place = NamedSharding(mesh, inputs)
    x = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32, sharding=place)
    text = jax.jit(split).lower(x).compile().as_text()
    found = find_transfers(Program(text), devices=8, slices=2)
    return [(one.kind, one.total_bytes) for one in found]


WHOLE = PartitionSpec()


@pytest.mark.parametrize(
    ("axes", "sent"),
    [
        (("dcn", "data", "fsdp"), BYTES / 4),  # four devices share what is sent
        (("dcn", "fsdp"), BYTES / 2),
        (("dcn",), BYTES),  # to the other slice and back, half each
        (("data", "fsdp"), None),
    ],
)
def test_a_sum_sends_what_a_slice_has_summed(mesh, axes, sent):
    found = transfers(mesh, lambda x: jax.lax.psum(x, axes), WHOLE, WHOLE)
    assert found == ([("all-reduce", sent)] if sent else [])


def test_other_collectives(mesh):
    rows = PartitionSpec(mesh.axis_names)
    gather = functools.partial(
        jax.lax.all_gather, axis_name=mesh.axis_names, tiled=True
    )
    assert transfers(mesh, gather, rows, WHOLE) == [("all-gather", BYTES / 8)]
    swap = functools.partial(jax.lax.ppermute, axis_name="dcn", perm=[(0, 1), (1, 0)])
    assert transfers(mesh, swap, rows, rows) == [("collective-permute", BYTES / 8)]
    turn = functools.partial(jax.lax.ppermute, axis_name="fsdp", perm=[(0, 1), (1, 0)])
    assert transfers(mesh, turn, rows, rows) == []


def test_one_slice_has_no_network(mesh):
    assert find_transfers(Program(""), devices=8, slices=1) == []


TPU = """
ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0} parameter(0)
  %all-reduce.1 = f32[8,128]{1,0} all-reduce(%p), replica_groups={{0,1,2,3}}
  %after-all.1 = token[] after-all()
  %send.1 = (f32[2,128]{1,0:T(8,128)}, u32[], token[]) send(%p, %after-all.1), \
channel_id=1, is_host_transfer=true, \
frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %send.2 = (s32[4,128]{1,0}, u32[], token[]) send(%p, %after-all.1), channel_id=2, \
frontend_attributes={_xla_megascale_transfer_type="ONE_TO_ONE"}
}
"""


def test_transfers_of_a_tpu_are_those_between_hosts():
    found = find_transfers(Program(TPU), devices=8, slices=2)
    assert by_kind(found) == {
        "collective-permute": dict(count=1, runs=1, bytes=2048),
        "all-reduce": dict(count=1, runs=1, bytes=1024),
    }


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}, x={{7}}", [[0, 2], [1, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'x'}, z", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['x'=2,'y'=2] {'x','y'}", [[0, 1, 2, 3]]),
        (
            "replica_groups=mesh['x'=2,'y'=2], device_ids=([2,2]T(1,0)) {'x'}",
            [[0, 1], [2, 3]],
        ),
        ("replica_groups=mesh['x'=4] {'x':(1)2}", [[0, 2], [1, 3]]),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
    ],
)
def test_groups_in_each_form(text, groups):
    instruction = Instruction("x", "f32[]", "all-reduce", (), {}, text, False)
    assert [list(group) for group in device_groups(instruction, 4)] == groups
