"""The figures of the package: the way of a batch, the rooms, the meshes."""

from draw import Figure

# From the ground up, as in `tests/test_imports.py`.
FLOORS = (
    ("errors", "registry", "storage", "types"),
    ("processes", "parts"),
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
    ("notebook",),
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
    "notebook": "runs in a notebook: train, look, go on",
    "commands": "one file for each verb of clipin",
}


def figures() -> dict[str, Figure]:
    """Returns name -> figure."""
    return {"rooms": rooms(), "batch": batch(), "meshes": meshes()}


def rooms() -> Figure:
    """One row for each floor, the lowest at the bottom."""
    step = 38
    height = 96 + step * len(FLOORS)
    fig = Figure(790, height, "The rooms of the package: who may import whom")
    for i, names in enumerate(reversed(FLOORS)):
        y, gap = 34 + step * i, 8
        w = (400 - gap * (len(names) - 1)) / len(names)
        for j, name in enumerate(names):
            kind = "loss" if name in PURE else "trained"
            kind = "data" if names == FLOORS[0] else kind
            fig.box(46 + j * (w + gap), y, w, 30, name, kind=kind)
        fig.note(460, y + 19, HOLDS[names[0]])
    bottom = 34 + step * len(FLOORS) - 8
    fig.arrow((28, 34), (28, bottom))
    fig.note(
        16, 22, "a room imports from its own floor and from those below, never upwards"
    )
    fig.note(
        24, height - 38,
        "orange: pure functions of jax arrays, the only rooms that import flax",
    )  # fmt: skip
    fig.note(24, height - 18, "grey: the ground, which all others may import")
    return fig


LEFT, CENTER, RIGHT, WIDTH = 28, 276, 524, 220  # columns of boxes
# Column, top, height, title, note, kind of each box of a batch's way.
STATIONS = (
    (LEFT, 28, 66, "data.pipeline", "grain: order, read|one part a process", "data"),
    (CENTER, 28, 66, "data.samples", "two views of a pair, or what|makes them", "data"),
    (RIGHT, 28, 66, "core.sharding.put", "global arrays, split|over devices", "data"),
    (
        RIGHT, 144, 62, "core.device_views",
        "view 1, view 2: made here|with data.augment_on=device", "data",
    ),
    (CENTER, 152, 54, "Learner.targets", "averaged parameters, view 2", "target"),
    (CENTER, 244, 54, "Learner.__call__", "trained parameters, view 1", "trained"),
    (LEFT, 244, 54, "objectives", "heads and losses, weighted sum", "loss"),
    (LEFT, 340, 54, "gradient, optimizer", "clip, rates, decay, bounds", "trained"),
    (CENTER, 340, 54, "target average", "m · target + (1 − m) · trained", "target"),
    (
        RIGHT, 340, 54, "next state",
        "parameters, optimizer, target,|statistics, queue", "plain",
    ),
    (LEFT, 452, 54, "metrics", "JSON lines, loggers, health", "plain"),
    (CENTER, 452, 54, "runs.checkpoint", "state and place in the data", "plain"),
    (RIGHT, 452, 54, "evaluators", "scores", "plain"),
)  # fmt: skip


def batch() -> Figure:
    """From files to an update, and what happens with its numbers."""
    fig = Figure(772, 560, "The way of a batch, from files to an update")
    step = "core.step: one compiled program, (state, batch, hyper)"
    fig.group(16, 122, 740, 292, step)
    for x, y, height, title, note, kind in STATIONS:
        fig.box(x, y, WIDTH, height, title, note, kind=kind)
    for left in (LEFT, CENTER):
        for y in (61, 367):
            fig.arrow((left + WIDTH, y), (left + 246, y))
    fig.arrow((634, 94), (634, 142))
    fig.arrow((RIGHT, 179), (CENTER + WIDTH + 2, 179))
    fig.arrow((634, 206), (634, 271), (CENTER + WIDTH + 2, 271))
    fig.arrow((CENTER, 179), (138, 179), (138, 242), kind="detached")
    fig.note(148, 170, "targets, no gradient")
    fig.arrow((CENTER, 271), (LEFT + WIDTH + 2, 271))
    fig.note(254, 236, "features")
    fig.arrow((138, 298), (138, 338))
    fig.note(148, 323, "loss")
    fig.note(RIGHT, 330, "not finite: only counters change")
    fig.arrow((138, 394), (138, 450))
    fig.arrow((600, 394), (600, 430), (386, 430), (386, 450))
    fig.arrow((668, 394), (668, 450))
    fig.legend(540, ("data", "trained", "target", "loss"), x=LEFT)
    return fig


# Preset -> shares that a device keeps of parameters, optimizer and target, on a slice
# of two times two devices; rules of `core.sharding`.
PRESETS = {
    "replicate": (4, 4, 4),
    "zero1": (1, 1, 1),
    "fsdp": (2, 2, 2),
    "fsdp+zero1": (2, 1, 1),
}
SENT = {
    "replicate": "sent: gradients",
    "zero1": "sent: parameters, once",
    "fsdp": "sent: parameters by layer",
    "fsdp+zero1": "sent: parameters by layer",
}


def meshes() -> Figure:
    """Eight devices in two slices, and what each preset splits over them."""
    fig = Figure(772, 510, "Meshes: what is split over which devices")
    title = "mesh.dcn = 2, mesh.data = 2, mesh.fsdp = 2: eight devices"
    fig.label(16, 32, title, bold=True)
    whole = (
        "The batch is split over all three axes: a device has an eighth of the pairs."
    )
    fig.note(16, 52, whole)
    for s in range(2):
        left = 16 + 376 * s
        fig.group(left, 66, 364, 134, f"slice {s}")
        for d in range(4):
            x, y, n = left + 76 + 142 * (d % 2), 94 + 50 * (d // 2), 4 * s + d
            part = f"pairs: part {n + 1} of 8"
            fig.box(x, y, 130, 40, f"device {n}", part, kind="data")
        for axis in range(2):
            fig.note(left + 16, 118 + 50 * axis, f"data {axis}")
            fig.note(left + 141 + 142 * axis, 86, f"fsdp {axis}", anchor="middle")
    between = (
        "a network (dcn) connects slices: gradients and features cross it, "
        "the state is whole in each"
    )
    fig.note(386, 220, between, anchor="middle")
    title = "sharding.preset: what a device keeps, of a slice's four"
    fig.label(16, 256, title, bold=True)
    for i, (preset, shares) in enumerate(PRESETS.items()):
        _preset(fig, 16 + 188 * i, 272, preset, shares)
    kept = "filled: what device 0 keeps. Arrays below sharding.min_mib stay whole."
    fig.note(16, 492, kept)
    return fig


def _preset(
    fig: Figure, x: float, y: float, preset: str, shares: tuple[int, ...]
) -> None:
    fig.group(x, y, 176, 196, preset)
    names = ("parameters", "optimizer", "target")
    for i, (name, share) in enumerate(zip(names, shares, strict=True)):
        top = y + 32 + 46 * i
        fig.note(x + 12, top + 10, name)
        for quarter in range(4):
            kind = "loss" if quarter < share else "plain"
            fig.cell(x + 12 + 38 * quarter, top + 15, 38, 16, kind=kind)
    fig.note(x + 12, y + 182, SENT[preset])
