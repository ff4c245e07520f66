"""The figures of the package: the way of a batch, the rooms, the meshes."""

from draw import Figure

# From the ground up, as in `tests/test_imports.py`.
FLOORS = (
    ("errors", "registry", "storage", "types"),
    ("processes",),
    ("config",),
    ("models",),
    ("objectives",),
    ("core",),
    ("data",),
    ("interop",),
    ("runs",),
    ("inference",),
    ("evaluators",),
    ("report",),
    ("training", "plan", "embeddings", "launchers"),
    ("datatools", "sweep"),
    ("study",),
    ("commands",),
)
PURE = ("models", "objectives", "core")
HOLDS = {
    "errors": "messages, tables of classes, files by path or URL",
    "processes": "start, agreement, stop and end of several processes",
    "config": "recipes, loading, overrides: no jax",
    "models": "towers and their layers",
    "objectives": "heads, losses, health",
    "core": "learner, step, state, optimizers, sharding",
    "data": "sources, images, text, batches: grain, no jax",
    "interop": "weights of other projects",
    "runs": "run folder, checkpoints, metrics",
    "inference": "one encoder: encode, match, caption, explain",
    "evaluators": "one file for each score",
    "report": "charts, tables, pages",
    "training": "the loop; plans for machines elsewhere; vectors; jobs",
    "datatools": "check, time and convert data; grids and searches",
    "study": "seeds, tests, conclusions",
    "commands": "one file for each verb of clipin",
}


def figures() -> dict[str, Figure]:
    """Returns name -> figure."""
    return {"rooms": rooms(), "batch": batch(), "meshes": meshes()}


def rooms() -> Figure:
    """One row for each floor, the lowest at the bottom."""
    step = 38
    height = 96 + step * len(FLOORS)
    fig = Figure(900, height, "The rooms of the package: who may import whom")
    for i, names in enumerate(reversed(FLOORS)):
        y, gap = 34 + step * i, 8
        w = (440 - gap * (len(names) - 1)) / len(names)
        for j, name in enumerate(names):
            kind = "loss" if name in PURE else "trained"
            kind = "data" if names == FLOORS[0] else kind
            fig.box(58 + j * (w + gap), y, w, 30, name, kind=kind)
        fig.note(516, y + 19, HOLDS[names[0]])
    bottom = 34 + step * len(FLOORS) - 8
    fig.arrow((36, 34), (36, bottom))
    fig.note(
        24, 22, "a room imports from its own floor and from those below, never upwards"
    )
    fig.note(
        24, height - 38,
        "orange: pure functions of jax arrays, the only rooms that import flax",
    )  # fmt: skip
    fig.note(24, height - 18, "grey: the ground, which all others may import")
    return fig


def batch() -> Figure:
    """From files to an update, and what happens with its numbers."""
    fig = Figure(900, 560, "The way of a batch, from files to an update")
    for x, w, title, note in (
        (24, 250, "data.pipeline", "grain: order, read, one part|for each process"),
        (
            330,
            250,
            "data.samples",
            "two views of a pair|or what the device needs for them",
        ),
        (636, 240, "core.sharding.put", "global arrays, split|over all devices"),
    ):
        fig.box(x, 28, w, 66, title, note, kind="data")
    fig.arrow((274, 61), (328, 61))
    fig.arrow((580, 61), (634, 61))
    fig.group(
        24, 122, 852, 292, "core.step: one compiled program, (state, batch, hyper)"
    )
    fig.arrow((748, 94), (748, 142))
    fig.box(
        636,
        144,
        224,
        62,
        "core.device_views",
        "view 1, view 2: made here|with data.augment_on=device",
        kind="data",
    )
    fig.box(
        330,
        152,
        250,
        54,
        "Learner.targets",
        "averaged parameters, view 2",
        kind="target",
    )
    fig.box(330, 244, 250, 54, "Learner.__call__", "trained parameters, view 1")
    fig.box(
        44, 244, 230, 54, "objectives", "heads and losses, weighted sum", kind="loss"
    )
    fig.arrow((636, 179), (582, 179))
    fig.arrow((748, 206), (748, 271), (582, 271))
    fig.arrow((330, 179), (160, 179), (160, 242), kind="detached")
    fig.note(170, 170, "targets, no gradient")
    fig.arrow((330, 271), (276, 271))
    fig.note(302, 262, "features", anchor="middle")
    fig.box(44, 340, 230, 54, "gradient, optimizer", "clip, rates, decay, bounds")
    fig.arrow((159, 298), (159, 338))
    fig.note(168, 323, "loss")
    fig.box(
        330,
        340,
        250,
        54,
        "target average",
        "m · target + (1 − m) · trained",
        kind="target",
    )
    fig.arrow((274, 367), (328, 367))
    fig.box(
        636,
        340,
        224,
        54,
        "next state",
        "parameters, optimizer, target,|statistics, queue",
        kind="plain",
    )
    fig.arrow((580, 367), (634, 367))
    fig.note(640, 318, "not finite: only counters change")
    fig.box(44, 452, 230, 54, "metrics", "JSON lines, loggers, health", kind="plain")
    fig.box(
        330,
        452,
        250,
        54,
        "runs.checkpoint",
        "state and place in the data",
        kind="plain",
    )
    fig.box(636, 452, 224, 54, "evaluation", "scores of the suites", kind="plain")
    fig.arrow((159, 394), (159, 450))
    fig.arrow((700, 394), (700, 428), (455, 428), (455, 450))
    fig.arrow((780, 394), (780, 450))
    fig.legend(540, ("data", "trained", "target", "loss"))
    return fig


# Preset -> shares that a device keeps of parameters, optimizer and target, on a slice
# of two times two devices; rules of `core.sharding`.
PRESETS = {
    "replicate": (4, 4, 4),
    "zero1": (1, 1, 1),
    "fsdp": (2, 2, 2),
    "fsdp+zero1": (2, 1, 1),
}
STEP_NOTES = {
    "replicate": "sent: gradients",
    "zero1": "sent: parameters, once",
    "fsdp": "sent: parameters by layer",
    "fsdp+zero1": "sent: parameters by layer",
}


def meshes() -> Figure:
    """Eight devices in two slices, and what each preset splits over them."""
    fig = Figure(900, 510, "Meshes: what is split over which devices")
    fig.label(
        24, 32, "mesh.dcn = 2, mesh.data = 2, mesh.fsdp = 2: eight devices", bold=True
    )
    fig.note(
        24,
        52,
        "The batch is split over all three axes: a device has an eighth of the pairs.",
    )
    for s in range(2):
        left = 24 + 438 * s
        fig.group(left, 66, 414, 134, f"slice {s}")
        for d in range(4):
            x, y = left + 96 + 158 * (d % 2), 94 + 50 * (d // 2)
            n = 4 * s + d
            fig.box(
                x, y, 146, 40, f"device {n}", f"pairs: part {n + 1} of 8", kind="data"
            )
        fig.note(left + 20, 118, "data 0")
        fig.note(left + 20, 168, "data 1")
        fig.note(left + 134, 86, "fsdp 0")
        fig.note(left + 294, 86, "fsdp 1")
    fig.note(
        450,
        220,
        "a network (dcn) connects slices: gradients and features cross it, "
        "the state is whole in each",
        anchor="middle",
    )
    fig.label(
        24, 256, "sharding.preset: what a device keeps, of a slice's four", bold=True
    )
    for i, (preset, shares) in enumerate(PRESETS.items()):
        _preset(fig, 24 + 219 * i, 272, preset, shares)
    fig.note(
        24,
        492,
        "filled: what device 0 keeps. Arrays below sharding.min_mib stay whole.",
    )
    return fig


def _preset(
    fig: Figure, x: float, y: float, preset: str, shares: tuple[int, ...]
) -> None:
    fig.group(x, y, 195, 196, preset)
    for i, (name, share) in enumerate(
        zip(("parameters", "optimizer", "target"), shares, strict=True)
    ):
        top = y + 32 + 46 * i
        fig.note(x + 12, top + 10, name)
        for quarter in range(4):
            kind = "loss" if quarter < share else "plain"
            fig.cell(x + 12 + 43 * quarter, top + 15, 42, 16, kind=kind)
    fig.note(x + 12, y + 182, STEP_NOTES[preset])
