"""What each part of a config costs: its parameters, and its products of matrices.

    python bench/method_costs.py docs/methods/*.md

writes the tables between the markers of the pages. Nothing is compiled or run: the
parameters are shapes, the products those of the traced forward pass of one batch.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from clipin_jax.config import load_config
from clipin_jax.core.learner import Learner, build
from clipin_jax.core.schedules import make_hyper
from clipin_jax.training.measures.model_flops import products

TABLE = re.compile(r"(<!-- costs of (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
TOWERS = {"image": "image tower", "text": "text tower"}
JOINT, ALL, TARGET = "joint space", "all that is trained", "target, averaged"
_OBJECTIVE = re.compile(r"objectives_(\w+)")


class Cost(NamedTuple):
    """The cost of a part.

    Attributes:
      parameters: numbers that it has.
      flops: of the products of its forward pass, for one pair of a batch.
    """

    parameters: int = 0
    flops: float = 0.0


def costs(spec: str) -> dict[str, Cost]:
    """Returns part -> cost of a config, the target last."""
    # Scanned layers are traced once; their parameters and products are the same.
    config = load_config(spec, ["model.scan_layers=True"], without_data=True)
    learner, batch = build(config), _shapes_of_batch(config)
    hyper = make_hyper(config, learner.objectives)(0)
    rngs = {name: jax.random.key(0) for name in ("params", "sample", "dropout")}

    def shapes(batch: Any) -> Any:
        every = learner.init(rngs, batch, hyper, method="initialize")
        return every, learner.init(rngs, batch, method="targets")

    variables, averaged = jax.eval_shape(shapes, batch)
    parameters = Counter[str]()
    for path, leaf in jax.tree.leaves_with_path(variables["params"]):
        parameters[_part("/".join(str(key.key) for key in path))] += leaf.size
    online, target = _flops(learner, variables, batch, hyper)
    parts = {
        name: Cost(parameters[name], online[name] / config.batch_size)
        for name in [*parameters, *(name for name in online if name not in parameters)]
    }
    parts[ALL] = Cost(parameters.total(), sum(online.values()) / config.batch_size)
    if averaged.get("params"):
        size = sum(leaf.size for leaf in jax.tree.leaves(averaged["params"]))
        parts[TARGET] = Cost(size, sum(target.values()) / config.batch_size)
    return parts


def _shapes_of_batch(config: ConfigDict) -> Any:
    size, text = config.batch_size, config.model.text
    image = jax.ShapeDtypeStruct((size, *config.model.image.image_size, 3), jnp.float32)
    ids = jax.ShapeDtypeStruct((size, text.context_length), jnp.int32)
    view = dict(image=image, text=ids, masked_text=ids, masked_labels=ids)
    return {f"view{i}": view for i in range(1, config.data.views + 1)}


def _flops(
    learner: Learner, variables: Any, batch: Any, hyper: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns part -> operations of the online and of the target branch."""
    changing = [name for name in variables if name != "params"]
    rngs = {name: jax.random.key(0) for name in ("sample", "dropout")}

    def target(variables: Any, batch: Any) -> Any:
        return learner.apply(
            variables, batch, method="targets", mutable=changing, rngs=rngs
        )

    def online(variables: Any, batch: Any, targets: Any) -> Any:
        return learner.apply(
            variables, batch, targets, hyper, mutable=changing, rngs=rngs
        )

    targets, _ = jax.eval_shape(target, variables, batch)
    return (
        _by_part(jax.make_jaxpr(online)(variables, batch, targets)),
        _by_part(jax.make_jaxpr(target)(variables, batch)),
    )


def _by_part(program: Any) -> dict[str, float]:
    flops = defaultdict[str, float](float)
    for path, count in products(program.jaxpr):
        flops[_part(path)] += count
    return flops


def _part(path: str) -> str:
    """Returns the part that a path of modules belongs to."""
    if found := _OBJECTIVE.search(path):
        return f"`{found[1].partition('.')[0]}`"
    names = path.split("/")
    return next((part for name, part in TOWERS.items() if name in names), JOINT)


def table(specs: list[str]) -> str:
    """Returns a Markdown table with two columns for each config."""
    found = {spec: costs(spec) for spec in specs}
    rows = list(dict.fromkeys(part for parts in found.values() for part in parts))
    first, last = [*TOWERS.values(), JOINT], [ALL, TARGET]
    objectives = [row for row in rows if row not in first + last]
    rows = [row for row in (*first, *objectives, *last) if row in rows]
    head = " | ".join(f"`{spec}`: parameters | GFLOPs" for spec in specs)
    lines = [f"| part | {head} |", "|---" + "|---|---" * len(specs) + "|"]
    for row in rows:
        cells = [_cells(parts.get(row)) for parts in found.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(cost: Cost | None) -> str:
    if cost is None:
        return " | "
    flops = f"{cost.flops / 1e9:.2f}"
    return f"{_millions(cost.parameters)} | {flops if float(flops) else '<0.01'}"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 10_000 else str(parameters)


def with_costs(page: str) -> str:
    """Returns a page with its tables computed again."""
    return TABLE.sub(
        lambda found: found[1] + table(found[2].split(", ")) + found[3], page
    )


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_costs(path.read_text()))
        print(path)
