"""Plans every config on five TPU machines at three batch sizes, and writes a page.

    python bench/scale.py plan                    # all steps: five hours of a core
    python bench/scale.py plan clip clip:clipin   # those of some configs
    python bench/scale.py page                    # docs/scale_plans.md and its figure

Each step takes about a minute of the TPU compiler; no TPU is needed, only
`pip install 'clipin_jax[plan,bench]'`. Finished steps are kept in
docs/scale_plans.json and not planned again. Times are modelled from the compiled
program, not measured.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from scale_page import RECIPE_BATCH, SHOWN, Setup, write_page

from clipin_jax.config import load_config
from clipin_jax.plan.devices import open_devices, prepare_environment
from clipin_jax.plan.machines import find_machine

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "scale_plans.json"
# Name of Google's -> topology, chips. Names of v5p count two cores for each chip.
MACHINES = {
    "v5e-16": ("v5e:4x4", 16),
    "v5e-256": ("v5e:16x16", 256),
    "v5p-64": ("v5p:2x4x4", 32),
    "v5p-512": ("v5p:4x8x8", 256),
    "v6e-64": ("v6e:8x8", 64),
}
BATCH_SIZES: tuple[int, ...] = (4096, 32_768, 131_072)
HOSTS = ("clip", "siglip", "nclip", "xclip", "albef", "blip", "coca")
CONFIGS = (
    *(f"{host}{plug}" for host in HOSTS for plug in ("", ":clipin")),
    "clip_zh:variant=B/16", "clip_zh:clipin,variant=B/16", "clip:tower=RN50",
    "clipin_coco",
)  # fmt: skip
# Matching and batch statistics see the whole batch, so these cannot be cut.
WHOLE = ("albef", "albef:clipin", "blip", "blip:clipin", "clip:tower=RN50")
SETTINGS = (
    "model.dtype=bfloat16", "model.scan_layers=True", "model.remat.image=full",
    "model.remat.text=full", "sharding.preset=zero1",
)  # fmt: skip
ROWS = {"v5e": 256, "v5p": 1024, "v6e": 512}  # of a device in one piece of a batch
SETUP = Setup(MACHINES, CONFIGS, BATCH_SIZES, SETTINGS, ROWS)

Result = dict[str, Any]


class Step(NamedTuple):
    """A step to plan."""

    config: str
    machine: str
    batch_size: int

    @property
    def micro_batches(self) -> int:
        """Pieces of a device's rows, each at most as large as `ROWS` where possible."""
        if self.config in WHOLE:
            return 1
        topology, chips = MACHINES[self.machine]
        return max(self.batch_size // chips // ROWS[topology.partition(":")[0]], 1)


def missing_steps(configs: Sequence[str], results: Sequence[Result]) -> Iterator[Step]:
    """Yields what is not planned: the figure first, then a batch size at a time."""
    done = {Step(r["config"], r["machine"], r["batch_size"]) for r in results}
    shown = [config for config in configs if config in SHOWN]
    others = [config for config in configs if config not in SHOWN]
    sizes = sorted(BATCH_SIZES, key=lambda size: size != RECIPE_BATCH)
    for group in (shown, others):
        steps = itertools.starmap(Step, itertools.product(group, MACHINES, sizes))
        in_order = sorted(steps, key=lambda step: sizes.index(step.batch_size))
        yield from (step for step in in_order if step not in done)


def plan(step: Step) -> Result:
    """Compiles a step and returns its figures."""
    from clipin_jax.plan.planner import make_plan
    from clipin_jax.plan.table import plan_record

    sizes = f"batch_size={step.batch_size}", f"micro_batches={step.micro_batches}"
    config = load_config(step.config, [*SETTINGS, *sizes], without_data=True)
    queued = config.objectives.get("momentum_contrastive")
    if queued and queued.queue_length < step.batch_size:
        queued.queue_length = 0  # a shorter queue than the batch is refused
    machine = find_machine(MACHINES[step.machine][0])
    with open_devices(machine) as devices:
        record = plan_record(make_plan(config, machine, devices, quick=True))
    memory, collectives = record["memory"], record["collectives"].values()
    return {
        "config": step.config,
        "machine": step.machine,
        "batch_size": step.batch_size,
        "micro_batches": step.micro_batches,
        "fits": record["fits"],
        "memory_bytes": round(memory["total"]),
        "limit_bytes": round(memory["limit"]),
        "collective_bytes": sum(kind["bytes"] for kind in collectives),
        "traffic_bytes": round(record["traffic"]),
        "flops": record["flops"],
        "seconds": record["seconds"],
        "images_per_second": round(record["images_per_second"]),
        "peak_share": round(record["peak_share"], 4),
        "bound": record["bound"],
    }


def read_results() -> list[Result]:
    """Returns the finished steps."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def plan_all(configs: Sequence[str]) -> None:
    """Plans what is not planned, and keeps each step at once.

    Another process may plan other configs meanwhile.
    """
    while step := next(missing_steps(configs, read_results()), None):
        prepare_environment(find_machine(MACHINES[step.machine][0]))
        result = plan(step)
        jax.clear_caches()  # they would hold every program
        print(json.dumps(result), flush=True)
        results = sorted([*read_results(), result], key=_position)
        RESULTS.write_text("".join(_lines(results)))


def _position(result: Result) -> tuple[int, int, int]:
    config, machine = result["config"], result["machine"]
    return (
        CONFIGS.index(config), list(MACHINES).index(machine), result["batch_size"]
    )  # fmt: skip


def _lines(results: Sequence[Result]) -> Iterator[str]:
    """Yields a JSON list, with a line for each step."""
    yield "[\n"
    yield ",\n".join(map(json.dumps, results))
    yield "\n]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Plans every config at scale.")
    parser.add_argument("what", choices=["plan", "page"])
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    args = parser.parse_args()
    if unknown := set(args.configs) - set(CONFIGS):
        parser.error(f"no config {', '.join(unknown)}; known: {', '.join(CONFIGS)}")
    if args.what == "plan":
        plan_all(args.configs or CONFIGS)
    write_page(read_results(), SETUP, DOCS)


if __name__ == "__main__":
    main()
