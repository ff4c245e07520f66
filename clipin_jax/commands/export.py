"""`clipin export`: hands a trained model on, in a form that others load."""

import argparse
import shlex
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from clipin_jax.commands.parsing import Verbs, add_verb, listing
from clipin_jax.errors import DONE

if TYPE_CHECKING:
    from clipin_jax.interop.exports.trained_model import Score, TrainedModel

FORMATS = {
    "huggingface": "transformers: CLIPModel, SiglipModel; with tokenizer",
    "open_clip": "open_clip: CLIP with ViT or ResNet, CoCa",
    "big_vision": "big_vision: SigLIP as .npz",
    "safetensors": "our own names; init_from reads it back, any model",
    "stablehlo": "programs of jax.export for CPU, TPU and GPU, any model",
    "onnx": "both towers for onnxruntime, any model",
}
EPILOG = f"""
formats:
{listing(FORMATS)}

examples:
  clipin export runs/first exported/first --to huggingface --license apache-2.0
  clipin export runs/first@5000 exported/first_5000 --to onnx

What a format cannot hold is an error, and nothing is written.
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(verbs, "export", "write a model for other tools", call, EPILOG)
    parser.add_argument("run", metavar="RUN[@STEP]", help="a run's folder")
    parser.add_argument("output", metavar="OUT", help="a new or empty folder")
    parser.add_argument("--to", required=True, choices=FORMATS, metavar="FORMAT")
    parser.add_argument(
        "--license", default="other", help="of the weights, for the model card"
    )
    parser.add_argument(
        "--no-tokenizer", action="store_true", help="leave the tokenizer's files out"
    )


def call(args: argparse.Namespace) -> int:
    """Writes the folder, and prints what it has."""
    from clipin_jax.interop.exports.folder import check_target
    from clipin_jax.interop.exports.formats import write_export
    from clipin_jax.runs.compile_cache import use_compile_cache

    use_compile_cache()
    check_target(args.output)  # before minutes of reading
    contents = write_export(_model(args), args.to, args.output)
    for note in contents.notes:
        print(f"  {note}")
    print(f"clipin: wrote {args.output}: {', '.join(contents.files)}")
    return DONE


def _model(args: argparse.Namespace) -> "TrainedModel":
    """Returns the model of a run, and the facts for its card."""
    from clipin_jax.inference.open_model import open_model
    from clipin_jax.interop.exports.trained_model import Facts, trained_model

    opened = open_model(args.run)
    folder, _, step = opened.name.rpartition("@")
    name = PurePath(folder).name
    facts = Facts(
        name=name,
        step=int(step),
        scores=list(_scores(folder, int(step))),
        command=_command(f"{name}@{step}", args),
        license=args.license,
    )
    variables, with_tokenizer = opened.state.variables, not args.no_tokenizer
    return trained_model(opened.config, variables, facts, with_tokenizer=with_tokenizer)


def _command(run: str, args: Any) -> str:
    """Returns the command with names in place of paths, as the card is for others."""
    words = ["clipin", "export", run, PurePath(args.output).name, "--to", args.to]
    words += ["--no-tokenizer"] if args.no_tokenizer else []
    return shlex.join([*words, "--license", args.license])


def _scores(folder: str, step: int) -> "Iterator[Score]":
    """Yields the scores of a step that have a format, with chance."""
    from clipin_jax.interop.exports.trained_model import Score
    from clipin_jax.report.run_history import read_histories
    from clipin_jax.report.run_report.scores import chance_key

    [history] = read_histories([folder])
    for key, shown in history.figures.items():
        value = history.series.get(key, {}).get(step)
        chance = history.series.get(chance_key(key), {}).get(step)
        if value is not None:
            beside = "" if chance is None else shown.text(chance)
            yield Score(key, shown.text(value), beside)
