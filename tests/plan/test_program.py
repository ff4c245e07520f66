"""Reading a compiled program: loops, fusions, products, bytes, collectives, modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clipin_jax.plan.collectives import by_kind, by_module, find_collectives
from clipin_jax.plan.modules import OPTIMIZER, module_of
from clipin_jax.plan.program import Program, num_bytes
from clipin_jax.plan.traffic import find_work

# What a TPU program looks like: a loop of four trips over a fused product whose second
# operand is one layer of a stack, and a gather that runs beside it.
TEXT = """
HloModule jit_step, is_scheduled=true

FileNames
1 "/home/me/clipin_jax/models/vit.py"
2 "/usr/lib/python3/flax/linen.py"

FileLocations
1 {file_name_id=1 function_name_id=1 line=120 end_line=120}
2 {file_name_id=2 function_name_id=1 line=7 end_line=7}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}

%slice_fusion (param_0.1: bf16[4,8,16], param_1.1: s32[]) -> bf16[8,16] {
  %param_0.1 = bf16[4,8,16]{2,1,0} parameter(0)
  %param_1.1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %one = bf16[1,8,16]{2,1,0} dynamic-slice(%param_0.1, %param_1.1, %zero, %zero)
  ROOT %flat = bf16[8,16]{1,0} bitcast(%one)
}

%product_fusion (param_0.2: bf16[32,8], param_1.2: bf16[4,8,16], param_2.2: s32[]) -> bf16[32,16] {
  %param_0.2 = bf16[32,8]{1,0} parameter(0)
  %param_1.2 = bf16[4,8,16]{2,1,0} parameter(1)
  %param_2.2 = s32[] parameter(2)
  %weight = bf16[8,16]{1,0} fusion(%param_1.2, %param_2.2), kind=kLoop, calls=%slice_fusion
  ROOT %product = bf16[32,16]{1,0} convolution(%param_0.2, %weight), dim_labels=bf_io->bf
}

%body (state: (s32[], bf16[32,8], bf16[4,8,16])) -> (s32[], bf16[32,8], bf16[4,8,16]) {
  %state = (s32[], bf16[32,8]{1,0}, bf16[4,8,16]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[32,8]{1,0} get-tuple-element(%state), index=1
  %stack = bf16[4,8,16]{2,1,0} get-tuple-element(%state), index=2
  %y = bf16[32,16]{1,0} fusion(%x, %stack, %i), kind=kOutput, calls=%product_fusion, metadata={op_name="jit(step)/jvp(Learner)/Learner._losses/towers.encode/image/transformer/while/body/closed_call/blocks/mlp_in/dot_general" stack_frame_id=2}
  %near = bf16[32,16]{1,0:S(1)} copy(%y)
  ROOT %next = (s32[], bf16[32,8]{1,0}, bf16[4,8,16]{2,1,0}) tuple(%i, %x, %stack)
}

%condition (state.1: (s32[], bf16[32,8], bf16[4,8,16])) -> pred[] {
  %state.1 = (s32[], bf16[32,8]{1,0}, bf16[4,8,16]{2,1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %four = s32[] constant(4)
  ROOT %less = pred[] compare(%i.1, %four), direction=LT
}

ENTRY %main (a: (s32[], bf16[32,8], bf16[4,8,16]), b: f32[10]) -> (s32[], bf16[32,8], bf16[4,8,16]) {
  %a = (s32[], bf16[32,8]{1,0}, bf16[4,8,16]{2,1,0}) parameter(0)
  %b = f32[10]{0} parameter(1)
  %gather = (f32[10]{0}, f32[80]{0}) all-gather-start(%b), channel_id=1, dimensions={0}, metadata={op_name="jit(step)/branch_1_fun/add"}
  %gathered = f32[80]{0} all-gather-done(%gather)
  ROOT %loop = (s32[], bf16[32,8]{1,0}, bf16[4,8,16]{2,1,0}) while(%a), condition=%condition, body=%body
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def program():
    return Program(TEXT)


def test_a_loop_runs_as_often_as_its_condition_says(program):
    assert program.runs == {"main": 1, "body": 4, "condition": 4}
    assert program.runs_with_fusions["slice_fusion"] == 4


def test_of_a_stack_only_the_slice_is_read(program):
    [product] = [work for work in find_work(program) if work.flops]
    assert product.flops == 4 * 2 * 32 * 16 * 8
    assert product.num_bytes == 4 * 2 * (32 * 8 + 8 * 16 + 32 * 16) + 4 * 4
    assert product.module == "image/transformer/blocks/mlp_in"


def test_what_stays_on_the_chip_is_no_traffic(program):
    [copy] = [work for work in find_work(program) if work.opcode == "copy"]
    assert copy.num_bytes == 4 * 2 * 32 * 16  # read, not written


def test_the_line_of_ours_is_the_innermost_one(program):
    [instruction] = [i for i in program.computations["body"] if i.name == "y"]
    assert program.source_line(instruction) == "models/vit.py:120"


def test_an_asynchronous_gather_counts_its_result_once(program):
    [gather] = find_collectives(program)
    assert (gather.kind, gather.runs, gather.num_bytes) == ("all-gather", 1, 320)
    assert gather.is_async and gather.module == OPTIMIZER
    assert by_kind([gather]) == {"all-gather": dict(count=1, runs=1, bytes=320)}
    assert by_module([gather]) == {OPTIMIZER: 320}


def test_bytes_of_types():
    assert num_bytes("(f32[2,3]{1,0}, pred[5], bf16[])") == 24 + 5 + 2
    assert num_bytes("s4[10]{0}") == 5
    assert num_bytes("f32[4]{0:S(1)}", hbm_only=True) == 0


@pytest.mark.parametrize(
    "name, module",
    [
        ("jit(f)/cond/branch_0_fun/mul", OPTIMIZER),
        ("jit(f)/transpose(jvp(Learner))/Learner._losses/towers.embed/dot", "learner"),
        (
            "jit(f)/jvp(Learner)/objectives_clipin/x/mul;jit(f)/y/z",
            "objectives_clipin/x",
        ),
        ("", ""),
    ],
)
def test_modules_of_names(name, module):
    assert module_of(name) == module


def test_products_of_a_compiled_program_are_counted():
    def step(x, stack):
        y, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)
        return y

    x, stack = jnp.ones((16, 24)), jnp.ones((5, 24, 24))
    text = jax.jit(step).lower(x, stack).compile().as_text()
    work = list(find_work(Program(text)))
    assert sum(item.flops for item in work) == 5 * 2 * 16 * 24 * 24


def test_collectives_of_a_compiled_program_are_counted():
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((64, 3), jnp.float32, sharding=split)
    text = jax.jit(lambda x: x * 2, out_shardings=whole).lower(x).compile().as_text()
    [gather] = find_collectives(Program(text))
    assert (gather.kind, gather.total_bytes) == ("all-gather", 64 * 3 * 4)
