"""Every framework, with and without CLIPin: trained on the same pairs, timed, compared.

    python bench/frameworks.py --data FOLDER --labels category
    python bench/frameworks.py --data FOLDER --only siglip,coca --steps 100

Each config's `small` variant trains for the same number of examples in a process of its
own; a run that is done is not run again, and one that was stopped goes on. Then the
steps of a config and of the same config with CLIPin take turns. Frameworks that write
captions or guess words get a vocabulary of the words in the training captions: scores
for all 30,000 pieces of BERT's would take most of a step this small. The table goes to
the terminal and with --write into a page; the last line is one JSON object.
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
from clipin_jax.study.contender import ratio
from clipin_jax.study.cost import contender_of

HOSTS = (
    "clip", "clip:tower=RN50", "siglip", "nclip", "xclip", "albef", "blip", "coca",
)  # fmt: skip
WORD_PIECES = ("albef", "blip", "coca")  # hosts that take a vocabulary
SCORES = {
    "t2i R@1": "retrieval/text_to_image_R@1",
    "t2i R@10": "retrieval/text_to_image_R@10",
    "i2t R@1": "retrieval/image_to_text_R@1",
    "zero-shot": "zero_shot/accuracy",
}
MARKS_OF_BERT = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
MARKS = "<!-- table -->", "<!-- end of table -->"


def spec_of(host: str, options: Sequence[str]) -> str:
    name, _, own = host.partition(":")
    return f"{name}:{','.join([*filter(None, [own]), 'small', *options])}"


def write_vocabulary(captions: Path, vocabulary: Path) -> None:
    """A WordPiece vocabulary of the words that some COCO captions have.

    Their words come whole; any other word of the same letters is spelled.
    """
    said = [each["caption"] for each in json.loads(captions.read_text())["annotations"]]
    words = set(re.findall(r"\w+|[^\w\s]", " ".join(said).lower()))
    letters = set("".join(words))
    pieces = [
        *MARKS_OF_BERT,
        *sorted(words | letters),
        *(f"##{x}" for x in sorted(letters)),
    ]
    vocabulary.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("\n".join(pieces))


def train(spec: str, overrides: Sequence[str], folder: Path) -> dict[str, float]:
    """Trains in a process of its own; the last scores."""
    start = "import sys; from clipin_jax.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "train", spec, *overrides]
    command += ["--workdir", str(folder)]
    subprocess.run(command, check=True)
    last = max((folder / "eval").glob("*.json"), key=lambda path: int(path.stem))
    return json.loads(last.read_text())["scores"]


def time_steps(specs: Sequence[str], overrides: Sequence[str], rounds: int) -> list:
    """Step time, memory and parameters of some configs that take turns."""
    made = [contender_of(load_config(spec, overrides)) for spec in specs]
    turns = [c for c, _ in made]
    for c in turns:
        c.step()  # the first is not counted
        c.wait()
    for _ in range(rounds):
        for c in turns:
            c.run(2)
        turns.reverse()
    base = made[0][0]
    return [
        {
            "ms": round(1000 * min(c.seconds), 1),
            "over_plain": ratio(c.seconds, base.seconds),
            "over_plain_cpu": ratio(c.cpu_seconds, base.cpu_seconds),
            "floor": round(c.flops / base.flops, 3),
            "peak_mib": round(c.peak_mib() or 0),
            "million_params": round(params / 1e6, 2),
        }
        for c, params in made
    ]


def measure(host: str, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Scores and costs of a host, plain and with CLIPin."""
    data = [f"data={args.data}", *([f"labels={args.labels}"] if args.labels else [])]
    overrides = [f"total_steps={args.steps}", f"seed={args.seed}"]
    if host in WORD_PIECES:
        data.append(f"vocabulary={args.vocabulary}")
        pieces = len(args.vocabulary.read_text().splitlines())
        added = load_config(spec_of(host, data)).data.tokenizer.get("extra_tokens", ())
        overrides.append(f"model.text.vocab_size={pieces + len(added)}")
    specs = [spec_of(host, data), spec_of(host, [*data, "clipin"])]
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
    """The rows as Markdown."""
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
    add("--vocabulary", type=Path, help="WordPiece, one piece a line; else made")
    add("--only", default=",".join(HOSTS), help="hosts, divided by commas")
    add("--steps", type=int, default=400, help="training steps of every run")
    add("--seed", type=int, default=0, help="of all runs")
    add("--rounds", type=int, default=6, help="of the step times")
    add("--workdir", type=Path, default=Path("runs/frameworks"), help="of all runs")
    add("--write", type=Path, help="page whose table is replaced")
    add("--no-train", dest="train", action="store_false", help="costs alone")
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
