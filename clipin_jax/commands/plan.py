"""`clipin plan`: compiles a training step for a machine that is not there."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipin_jax.commands.parsing import Verbs, add_config, add_verb
from clipin_jax.config import load_config
from clipin_jax.errors import DONE, FAILED
from clipin_jax.plan.devices import open_devices, prepare_environment
from clipin_jax.plan.machines import Machine, find_machine

if TYPE_CHECKING:
    from clipin_jax.plan.planner import Plan

EPILOG = """
examples:
  clipin plan clip --on v5e:4x4 batch_size=4096 model.dtype=bfloat16
  clipin plan clip --compare clip:clipin --on v5p:2x2x2
  clipin plan clip:clipin --on v6e:8x8 --search batch --quick
  clipin plan clip --on 2xv5e:16x16 mesh.dcn=2 batch_size=65536
  clipin plan siglip --on cpu:8 --json

TPU chips: v4, v5e, v5p, v6e, tpu7x with a topology; their compiler comes with
pip install 'clipin_jax[plan]'. cpu:N, h100:N, h200:N, a100:N and gpu:N are estimates:
the program is that of N CPU devices, whose memory and traffic differ from a GPU's.
2xv5e:4x4 is two slices with a network between them: set mesh.dcn=2.

Times are modelled, not measured. Exit codes: 0 it fits, 1 it does not.
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "plan", "memory, collectives and time of a run elsewhere", call, EPILOG
    )
    add_config(parser)
    parser.add_argument("--on", required=True, metavar="[SLICESx]CHIP:TOPOLOGY")
    parser.add_argument(
        "--quick", action="store_true", help="less effort of the compiler"
    )
    only_one = parser.add_mutually_exclusive_group()
    only_one.add_argument("--search", choices=["batch"], help="the largest that fits")
    only_one.add_argument("--compare", metavar="CONFIG", help="a second config")
    parser.add_argument("--json", action="store_true", help="print JSON")


def call(args: argparse.Namespace) -> int:
    """Prints the plan, or both."""
    prepare_environment(machine := find_machine(args.on))
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    names = [args.config, *([args.compare] if args.compare else [])]
    configs = [load_config(name, args.overrides, without_data=True) for name in names]
    with open_devices(machine) as devices:
        plans = _make_plans(args, configs, machine, devices)
    from clipin_jax.plan.table import plan_record, plan_table

    if args.json:
        records = [plan_record(plan) for plan in plans]
        print(json.dumps(records if args.compare else records[0], indent=2))
    else:
        print("\n\n".join(map(plan_table, plans)))
    return DONE if all(plan.fits for plan in plans) else FAILED


def _make_plans(
    args: argparse.Namespace,
    configs: Sequence[Any],
    machine: Machine,
    devices: Sequence[Any],
) -> "list[Plan]":
    from clipin_jax.plan.planner import make_plan
    from clipin_jax.plan.search import largest_batch

    if not args.search:
        return [make_plan(c, machine, devices, quick=args.quick) for c in configs]

    def report(plan: "Plan") -> None:
        verdict = "fits" if plan.fits else "does not fit"
        print(f"clipin: batch_size={plan.batch_size} {verdict}", file=sys.stderr)

    return [
        largest_batch(configs[0], machine, devices, quick=args.quick, report=report)
    ]
