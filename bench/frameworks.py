"""Trains and times every framework with and without CLIPin, on the same pairs.

    python bench/frameworks.py --data FOLDER --labels category
    python bench/frameworks.py --data FOLDER --only siglip,coca --steps 100

Each config's `small` variant trains for the same number of examples in its own process.
A finished run is not repeated, an interrupted one is resumed. Then the steps of a
config and of the same config with CLIPin take turns. Frameworks that generate or
predict words get a vocabulary of the words in the training captions: logits for the
30,000 pieces of BERT would take most of such a small step. The table is printed, and
written into a page with --write; the last line is one JSON object.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipin_jax.config import load_config
from clipin_jax.study.step_costs import timed_step_of
from clipin_jax.study.timed_step import median_ratio, take_turns

HOSTS = (
    "clip", "clip:tower=RN50", "siglip", "nclip", "xclip", "albef", "blip", "coca",
)  # fmt: skip
WORD_PIECE_HOSTS = ("albef", "blip", "coca")  # hosts with a WordPiece vocabulary
SCORES = {
    "t2i R@1": "retrieval/text_to_image_R@1",
    "t2i R@10": "retrieval/text_to_image_R@10",
    "i2t R@1": "retrieval/image_to_text_R@1",
    "zero-shot": "zero_shot/accuracy",
}
MARKS_OF_BERT = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MARKS = "<!-- table -->", "<!-- end of table -->"


def config_spec(host: str, options: Sequence[str]) -> str:
    """Returns the config of a host's small variant, with options."""
    name, _, variant = host.partition(":")
    return f"{name}:{','.join([*filter(None, [variant]), 'small', *options])}"


def write_vocabulary(captions: Path, vocabulary: Path) -> None:
    """Writes a WordPiece vocabulary of the words in some COCO captions.

    It has these words as pieces, and letters for all other words.
    """
    annotations = json.loads(captions.read_text())["annotations"]
    text = " ".join(annotation["caption"] for annotation in annotations)
    words = set(re.findall(r"\w+|[^\w\s]", text.lower()))
    letters = set("".join(words))
    pieces = [
        *MARKS_OF_BERT,
        *sorted(words | letters),
        *(f"##{x}" for x in sorted(letters)),
    ]
    vocabulary.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("\n".join(pieces))


def train(spec: str, overrides: Sequence[str], folder: Path) -> dict[str, float]:
    """Trains in a new process; returns the last scores."""
    start = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "train", spec, *overrides]
    command += ["--workdir", str(folder)]
    subprocess.run(command, check=True)
    last = max((folder / "eval").glob("*.json"), key=lambda path: int(path.stem))
    return json.loads(last.read_text())["scores"]


def time_steps(
    specs: Sequence[str], overrides: Sequence[str], rounds: int
) -> list[dict[str, float]]:
    """Returns step time, memory and parameters of configs whose steps take turns."""
    built = [timed_step_of(load_config(spec, overrides)) for spec in specs]
    timed_steps = [timed for timed, _ in built]
    for timed in timed_steps:
        timed.warm_up()
    for _ in take_turns(timed_steps, rounds=rounds, steps=2):
        pass
    base = timed_steps[0]
    return [
        {
            "ms": round(1000 * min(timed.seconds), 1),
            "over_plain": median_ratio(timed.seconds, base.seconds),
            "over_plain_cpu": median_ratio(timed.cpu_seconds, base.cpu_seconds),
            "floor": round(timed.flops / base.flops, 3),
            "peak_mib": round(timed.peak_mib() or 0),
            "million_params": round(params / 1e6, 2),
        }
        for timed, params in built
    ]


def measure(host: str, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns scores and costs of a host, plain and with CLIPin."""
    data = [f"data={args.data}", *([f"labels={args.labels}"] if args.labels else [])]
    overrides = [f"total_steps={args.steps}", f"seed={args.seed}"]
    if host in WORD_PIECE_HOSTS:
        data.append(f"vocabulary={args.vocabulary}")
        pieces = len(args.vocabulary.read_text().splitlines())
        added = load_config(config_spec(host, data)).data.tokenizer.get(
            "extra_tokens", ()
        )
        overrides.append(f"model.text.vocab_size={pieces + len(added)}")
    specs = [config_spec(host, data), config_spec(host, [*data, "clipin"])]
    rows = {}
    costs = time_steps(specs, overrides, args.rounds)
    for spec, cost, plug in zip(specs, costs, ("", " + CLIPin"), strict=True):
        name = f"{host}{plug}"
        folder = args.workdir / re.sub(r"\W+", "_", name)
        scores = train(spec, overrides, folder) if args.train else {}
        named = {short: scores[key] for short, key in SCORES.items() if key in scores}
        rows[name] = named | cost
        print(f"{name}: {json.dumps(rows[name])}", flush=True)
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Returns the rows as Markdown."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for name, row in rows.items():
        cells = [row.get(column, "") for column in columns]
        shares = [
            f"{100 * cell:.1f}%" if column in SCORES else str(cell)
            for column, cell in zip(columns, cells, strict=True)
        ]
        lines.append([name, *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(page: Path, text: str) -> None:
    """Replaces the table of a page."""
    head, _, rest = page.read_text().partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    page.write_text(f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{tail}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of pairs in the COCO captions layout")
    add("--labels", default="", help="key of the classes in its JSON files")
    add("--vocabulary", type=Path, help="WordPiece, one piece per line; else generated")
    add("--only", default=",".join(HOSTS), help="hosts, separated by commas")
    add("--steps", type=int, default=400, help="training steps of every run")
    add("--seed", type=int, default=0, help="of all runs")
    add("--rounds", type=int, default=6, help="of the step times")
    add("--workdir", type=Path, default=Path("runs/frameworks"), help="of all runs")
    add("--write", type=Path, help="page whose table is replaced")
    add("--no-train", dest="train", action="store_false", help="measure costs only")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.vocabulary:
        args.vocabulary = (args.workdir / "vocab.txt").resolve()
        write_vocabulary(Path(args.data) / "captions_train.json", args.vocabulary)
    rows: dict[str, dict[str, Any]] = {}
    for host in args.only.split(","):
        rows |= measure(host, args)
    text = table(rows)
    print(text)
    if args.write:
        write_table(args.write, text)
    print(json.dumps({"steps": args.steps, "seed": args.seed, "rows": rows}))


if __name__ == "__main__":
    main()
