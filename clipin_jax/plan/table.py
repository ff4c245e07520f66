"""A plan as a table for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipin_jax.plan.collectives import by_kind, by_module
from clipin_jax.plan.planner import Plan

GIB, MIB = 2**30, 2**20
_MODULES = 5  # that a table names
_MODEL = "times are modelled from the program and the chip's data sheet, not measured"


def plan_table(plan: Plan) -> str:
    """Returns the lines of a plan; sizes are those of one device."""
    rows = [*_memory_rows(plan), *_program_rows(plan)]
    width = max(len(name) for name, _ in rows)
    head = (
        f"{plan.name} on {plan.machine.name}: {plan.devices} devices, "
        f"{plan.batch_size:,} pairs a step"
    )
    lines = [head, *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows)]
    return "\n".join([*lines, _MODEL])


def _memory_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    memory = plan.memory
    spare = (memory.limit - memory.total) / GIB
    verdict = f"fits, {spare:.2f} GiB are free"
    if not plan.fits:
        verdict = f"does NOT fit: {-spare:.2f} GiB too much"
    total, limit = memory.total / GIB, memory.limit / GIB
    yield "memory", f"{total:.2f} of {limit:.2f} GiB: {verdict}"
    parts = dict(
        parameters=memory.params,
        optimizer=memory.optimizer,
        target=memory.target,
        batch=memory.batch,
    )
    parts["activations and temporaries"] = memory.temporaries
    for name, size in parts.items():
        if size:
            yield f"  {name}", f"{size / GIB:.3f} GiB"
    for number, buffer in enumerate(plan.buffers):
        title = "largest buffers" if number == 0 else ""
        yield title, f"{buffer.num_bytes / GIB:.3f} GiB  {buffer.type}  {buffer.line}"


def _program_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    if not plan.seconds:
        yield "compiled in", f"{plan.compile_seconds:.0f} s"
        return
    for number, (kind, total) in enumerate(by_kind(plan.collectives).items()):
        title = "collectives" if number == 0 else ""
        yield title, f"{kind}: {total['runs']} runs, {total['bytes'] / MIB:,.1f} MiB"
    if not plan.collectives:
        yield "collectives", "none"
    modules = list(by_module(plan.collectives).items())[:_MODULES]
    for number, (module, size) in enumerate(modules):
        title = "  most of them for" if number == 0 else ""
        yield title, f"{size / MIB:,.1f} MiB  {module or 'unknown'}"
    for number, (kind, total) in enumerate(by_kind(plan.transfers).items()):
        title = "to other slices" if number == 0 else ""
        yield title, f"{kind}: {total['runs']} runs, {total['bytes'] / MIB:,.1f} MiB"
    yield "traffic", f"{sum(plan.traffic.values()) / GIB:.1f} GiB to and from memory"
    for number, (module, size) in enumerate(list(plan.traffic.items())[:_MODULES]):
        title = "  most of it for" if number == 0 else ""
        yield title, f"{size / GIB:.1f} GiB  {module or 'unknown'}"
    yield "products", f"{plan.flops / 1e12:.2f} TFLOP"
    yield (
        "step",
        f"{plan.seconds:.4f} s, {plan.images_per_second:,.0f} images/s, "
        f"{plan.peak_share:.0%} of peak, bound by {plan.bound}",
    )
    yield "compiled in", f"{plan.compile_seconds:.0f} s"


def plan_record(plan: Plan) -> dict[str, Any]:
    """Returns a plan for JSON; sizes in bytes, those of one device."""
    memory = plan.memory
    return {
        "config": plan.name,
        "machine": plan.machine.name,
        "devices": plan.devices,
        "slices": plan.machine.slices,
        "batch_size": plan.batch_size,
        "fits": plan.fits,
        "memory": {**vars(memory), "spare": memory.limit - memory.total},
        "buffers": [buffer._asdict() for buffer in plan.buffers],
        "collectives": by_kind(plan.collectives),
        "collectives_by_module": by_module(plan.collectives),
        "network": by_kind(plan.transfers),
        "traffic": sum(plan.traffic.values()),
        "traffic_by_module": dict(plan.traffic),
        "flops": plan.flops,
        "seconds": plan.seconds,
        "images_per_second": plan.images_per_second,
        "peak_share": plan.peak_share,
        "bound": plan.bound,
        "compile_seconds": plan.compile_seconds,
    }
