"""Writes the page of the plans at scale: tables, chip hours and a figure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

GIB = 2**30
RECIPE_PAIRS = 32 * 400e6  # 32 epochs of 400 million pairs, as in CLIP's paper
RECIPE_BATCH = 32_768
SHOWN = ("clip", "clip:clipin")  # in the figure
NOTHING = "-"

HEAD = """\
# Plans at scale

Modelled, not run: the TPU compiler made these steps without a TPU, by `clipin plan` and
`--quick`, and a roofline gives their times. A real run is slower by what a roofline
leaves out, such as data and checkpoints. Compiler: libtpu 0.0.42, 2026-11-30.

Every step has {settings}. The rows of a device are cut with `micro_batches` into pieces
of at most {rows}, where the objectives allow it; else they run whole. A queue
of negatives that is shorter than the batch is left out: those of ALBEF and BLIP at
131,072.
{planned}
"""
FIGURE = """
![Images per second and chip, over the batch size](scale.svg)
"""
MACHINE_TITLE = """
## {name}

{chips} chips, `--on {topology}`, {limit:.2f} GiB each. "sent" is what a chip hands to
collectives in a step.
"""
HOURS_TITLE = """
## Chip hours of a large recipe

{pairs:.1f} billion pairs (32 epochs of 400 million, arXiv 2103.00020) in batches of
{batch:,}.
"""
FOOT = """
`python bench/scale.py plan` repeats the plans, `python bench/scale.py page` writes this
page from `docs/scale_plans.json`.
"""


class Setup(NamedTuple):
    """What the plans have in common.

    Attributes:
      machines: name -> topology, number of chips.
      configs: in the order of the page.
      batch_sizes: pairs in a step, ascending.
      settings: overrides of each config.
      rows: chip -> most rows of a device in a piece of a batch.
    """

    machines: Mapping[str, tuple[str, int]]
    configs: Sequence[str]
    batch_sizes: Sequence[int]
    settings: Sequence[str]
    rows: Mapping[str, int]


Result = Mapping[str, Any]
ByStep = Mapping[tuple[str, str, int], Result]


def write_page(results: Sequence[Result], setup: Setup, docs: Path) -> None:
    """Writes `scale_plans.md` and `scale.svg`.

    Args:
      results: of the steps that were planned, see `scale.plan`.
      setup: what they have in common.
      docs: the folder.
    """
    (docs / "scale_plans.md").write_text(page(results, setup))
    draw(results, setup, docs / "scale.svg")


def page(results: Sequence[Result], setup: Setup) -> str:
    """Returns the page as Markdown."""
    by_step = _by_step(results)
    steps = len(setup.machines) * len(setup.configs) * len(setup.batch_sizes)
    head = HEAD.format(
        settings=", ".join(f"`{setting}`" for setting in setup.settings),
        rows=", ".join(f"{n} on {chip}" for chip, n in setup.rows.items()),
        planned=_planned(len(results), steps),
    )
    parts = [head, FIGURE]
    for name in setup.machines:
        parts += _machine_part(name, by_step, setup)
    title = HOURS_TITLE.format(pairs=RECIPE_PAIRS / 1e9, batch=RECIPE_BATCH)
    return "".join([*parts, title, _hours_table(by_step, setup), FOOT])


def _planned(done: int, steps: int) -> str:
    count = f"All {steps}" if done == steps else f"{done} of {steps}"
    return f"{count} steps are planned."


def _by_step(results: Sequence[Result]) -> ByStep:
    return {(r["config"], r["machine"], r["batch_size"]): r for r in results}


def _machine_part(name: str, results: ByStep, setup: Setup) -> Iterator[str]:
    topology, chips = setup.machines[name]
    planned = [r for r in results.values() if r["machine"] == name]
    if not planned:
        return
    yield MACHINE_TITLE.format(
        name=name,
        chips=chips,
        topology=topology,
        limit=planned[0]["limit_bytes"] / GIB,
    )
    sizes = [f"{size:,}" for size in setup.batch_sizes]
    head = [f"{s} {figure}" for s in sizes for figure in ("images/s", "GiB", "sent")]
    yield _table(
        head,
        setup.configs,
        lambda config: [
            cell
            for size in setup.batch_sizes
            for cell in _cells(results.get((config, name, size)))
        ],
    )


def _cells(result: Result | None) -> list[str]:
    """Returns images per second, memory and what collectives send."""
    if result is None:
        return [NOTHING] * 3
    memory = f"{result['memory_bytes'] / GIB:.1f}"
    if not result["fits"]:
        return ["does not fit", memory, NOTHING]
    sent = f"{result['collective_bytes'] / GIB:.2f}"
    return [f"{result['images_per_second']:,}", memory, sent]


def _hours_table(results: ByStep, setup: Setup) -> str:
    def cells(config: str) -> list[str]:
        return [
            _hours(results.get((config, name, RECIPE_BATCH)), chips)
            for name, (_, chips) in setup.machines.items()
        ]

    return _table(list(setup.machines), setup.configs, cells)


def _hours(result: Result | None, chips: int) -> str:
    if result is None:
        return NOTHING
    if not result["fits"]:
        return "does not fit"
    return f"{RECIPE_PAIRS / result['images_per_second'] / 3600 * chips:,.0f}"


def _table(
    head: Sequence[str], names: Sequence[str], cells: Callable[[str], Sequence[str]]
) -> str:
    """Returns a Markdown table, a line for each name that has something to show."""
    lines = ["config", *head], ["---", *("---:" for _ in head)]
    rows = [[f"`{name}`", *cells(name)] for name in names]
    shown = [row for row in rows if {*row[1:]} != {NOTHING}]
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in [*lines, *shown])


def draw(results: Sequence[Result], setup: Setup, path: Path) -> None:
    """Draws images per second and chip over the batch size, a line for each machine."""
    # An extra. The backend of files is used where there is no screen.
    from matplotlib import pyplot, ticker  # pyright: ignore[reportMissingImports]

    pyplot.rcParams |= {"svg.hashsalt": "scale", "svg.fonttype": "none"}
    by_step = _by_step(results)
    figure, all_axes = pyplot.subplots(
        1, len(SHOWN), figsize=(9.6, 3.6), sharey=True, layout="constrained"
    )
    for axes, config in zip(all_axes, SHOWN, strict=True):
        for name, (_, chips) in setup.machines.items():
            steps = [by_step.get((config, name, size)) for size in setup.batch_sizes]
            points = [
                (s["batch_size"], s["images_per_second"] / chips)
                for s in steps
                if s and s["fits"]
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=config, xlabel="pairs in a step", xscale="log", yscale="log")
        axes.set_xticks(setup.batch_sizes, [f"{n:,}" for n in setup.batch_sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(ticker.ScalarFormatter())
        axes.set_yticks([500, 1000, 2000, 4000], ["500", "1,000", "2,000", "4,000"])
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("images per second and chip, modelled")
    lines = all_axes[0].get_lines()
    figure.legend(handles=lines, loc="outside right center", fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
