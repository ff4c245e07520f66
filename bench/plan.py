"""Plans full-size steps with the TPU compiler, and compares them with limits.

    python bench/plan.py               # all rows: ten minutes on two cores
    python bench/plan.py clip coca     # some of them

No TPU is needed, only `pip install 'clipin_jax[plan]'`. Bytes are those of the compiled
programs, times are modelled. The last line is JSON.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from clipin_jax.config import load_config
from clipin_jax.plan.devices import open_devices, prepare_environment
from clipin_jax.plan.machines import find_machine

GIB, MIB = 2**30, 2**20
MACHINE = "v5e:4x4"
COMMON = (
    "batch_size=4096", "model.dtype=bfloat16", "model.scan_layers=True",
    "model.remat.image=full", "model.remat.text=full",
)  # fmt: skip


class Row(NamedTuple):
    """A step, one figure of its plan, and the most that it should be."""

    config: str
    figure: str
    limit: float
    overrides: tuple[str, ...] = ()


def traffic(plan) -> float:
    """Returns GiB between a chip and its memory."""
    return sum(plan.traffic.values()) / GIB


def permutes(plan) -> float:
    """Returns how many collective permutes a step runs."""
    return sum(c.runs for c in plan.collectives if c.kind == "collective-permute")


def matching(plan) -> float:
    """Returns MiB of tokens that matching sends; gradients are reduced, not sent."""
    moved = [c for c in plan.collectives if "objectives_matching" in c.module]
    return sum(c.total_bytes for c in moved if c.kind != "all-reduce") / MIB


def total(plan) -> float:
    """Returns GiB of memory."""
    return plan.memory.total / GIB


def temporaries(plan) -> float:
    """Returns GiB of activations and all else that is no argument."""
    return plan.memory.temporaries / GIB


def arguments(plan) -> float:
    """Returns GiB of state and batch."""
    parts = plan.memory
    state = parts.params + parts.optimizer + parts.target + parts.others
    return (state + parts.batch) / GIB


FIGURES: dict[str, Callable] = {
    "traffic_gib": traffic,
    "permutes": permutes,
    "matching_mib": matching,
    "total_gib": total,
    "temporaries_gib": temporaries,
    "arguments_gib": arguments,
}
FSDP = ("mesh.fsdp=16", "sharding.preset=fsdp")
LARGE = "batch_size=32768", "micro_batches=8", "objectives.contrastive.impl=ring"
ROWS = {
    "clip": Row("clip", "traffic_gib", 115),
    "fsdp": Row("clip", "traffic_gib", 260, FSDP),
    "fsdp_permutes": Row("clip", "permutes", 0, FSDP),
    "albef": Row("albef", "matching_mib", 16),
    "blip": Row("blip", "matching_mib", 16),
    "large_batch": Row("clip", "total_gib", 8, LARGE),
    "coca": Row("coca", "temporaries_gib", 3),
    "zero1": Row("clip:clipin", "arguments_gib", 1.6, ("sharding.preset=zero1",)),
}


def run(names: Sequence[str]) -> dict[str, dict]:
    """Plans rows and prints each; equal steps are compiled once."""
    from clipin_jax.plan.planner import make_plan

    machine, plans, results = find_machine(MACHINE), {}, {}
    with open_devices(machine) as devices:
        for name in names:
            row = ROWS[name]
            key = row.config, row.overrides
            if key not in plans:
                overrides = [*COMMON, *row.overrides]
                config = load_config(row.config, overrides, without_data=True)
                plans[key] = make_plan(config, machine, devices, quick=True)
            value = FIGURES[row.figure](plans[key])
            results[name] = {
                row.figure: round(value, 3),
                "limit": row.limit,
                "images_per_second": round(plans[key].images_per_second),
                "peak_share": round(plans[key].peak_share, 3),
            }
            mark = "" if value <= row.limit else "  ABOVE"
            print(f"{name:14} {row.figure:16} {value:9.3f} of {row.limit:g}{mark}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Plans steps, compares with limits.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    args = parser.parse_args()
    if unknown := set(args.rows) - ROWS.keys():
        parser.error(f"no row {', '.join(unknown)}; known: {', '.join(ROWS)}")
    prepare_environment(find_machine(MACHINE))
    print(json.dumps(run(args.rows or list(ROWS))))


if __name__ == "__main__":
    main()
