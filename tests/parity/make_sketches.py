"""Turns a folder of whole golden files into sketched ones.

    python -m tests.parity.make_sketches WHOLE SKETCHED

Inputs, initial parameters and small arrays stay whole, bit for bit. Large arrays that
the published code computed become sketches. JSON files are copied.
"""

import argparse
import re
import shutil
from pathlib import Path

from tests.parity.compare import LENGTH, sketch
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
    large = value.dtype == float and value.size > LENGTH
    return large and bool(DERIVED.search(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whole", type=Path, help="folder of whole files")
    parser.add_argument("sketched", type=Path, help="folder to write")
    arguments = parser.parse_args()
    arguments.sketched.mkdir(parents=True, exist_ok=True)
    for path in sorted(arguments.whole.iterdir()):
        if path.suffix == ".npz":
            write_arrays(arguments.sketched / path.name, sketched(read_arrays(path)))
        elif path.suffix == ".json":
            shutil.copyfile(path, arguments.sketched / path.name)


if __name__ == "__main__":
    main()
