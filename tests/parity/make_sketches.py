"""Turns a folder of whole golden files into sketched ones.

    python -m tests.parity.make_sketches WHOLE SKETCHED --seeds 80 81 1000

Inputs, initial parameters and small arrays stay whole, bit for bit; those that PyTorch
drew become seeds. Large arrays that the published code computed become sketches. JSON
files are copied.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from tests.parity.compare import LENGTH, Sketch, sketch
from tests.parity.find_draws import find_draws
from tests.parity.golden_files import read_arrays, write_arrays

DERIVED = re.compile(
    r"(^|/)(step\d+/(params|ema|buffers)|buffers_after|grads|act|it[mc]_\w+|encode_\w+"
    r"|(image|token)_embs|image_embeds|\w+_states)(/|$)"
)


def sketched(arrays: dict) -> dict:
    """Replaces large derived arrays by their sketches."""
    return {
        name: sketch(value) if _is_large_and_derived(name, value) else value
        for name, value in arrays.items()
    }


def _is_large_and_derived(name: str, value) -> bool:
    if isinstance(value, Sketch):
        return False
    large = value.dtype == float and value.size > LENGTH
    return large and bool(DERIVED.search(name))


def write_sketched(path: Path, arrays: dict, seeds: list[int]) -> None:
    """Writes a small file; its own seed, the next two and `seeds` are searched."""
    meta = json.loads(str(arrays["meta"]))
    own = meta.get("config", meta).get("seed")
    near = [] if own is None else [own, own + 1, own + 2]
    kept = sketched(arrays)
    whole = {k: v for k, v in kept.items() if not isinstance(v, Sketch)}
    write_arrays(path, kept, find_draws(whole, near + seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whole", type=Path, help="folder of whole files")
    parser.add_argument("sketched", type=Path, help="folder to write")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    arguments.sketched.mkdir(parents=True, exist_ok=True)
    for path in sorted(arguments.whole.iterdir()):
        if path.suffix == ".npz":
            target = arguments.sketched / path.name
            write_sketched(target, read_arrays(path), arguments.seeds)
        elif path.suffix == ".json":
            shutil.copyfile(path, arguments.sketched / path.name)


if __name__ == "__main__":
    main()
