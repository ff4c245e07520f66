"""`clipin data`: checks, times or converts the training data of a config."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax.commands.parsing import (
    Verbs,
    add_config,
    add_overrides,
    add_parts,
    add_verb,
    output_file,
    read_how,
    whole_numbers,
)

EPILOG = """
examples:
  clipin data check clip:data=/path/to/folder --output check.html
  clipin data bench clip:data=/path/to/folder --step-ms 180
  clipin data convert clip:data=/path/to/folder shards --to webdataset
  clipin data convert clip:data=/path/to/folder shards --part 3/16
  clipin data convert clip:data=/path/to/folder shards --merge
  clipin data convert clip:data=/path/to/folder shards --on dask --workers 8

Each takes KEY=VALUE, as train does. Exit codes: 0 done, 75 stopped and resumed by the
same command, 78 the data or the config must be changed, 1 failed.
"""
FORMATS = ("array_record", "webdataset")


def register(verbs: Verbs) -> None:
    """Adds the verb with its actions."""
    data = add_verb(
        verbs, "data", "check, time or convert the training data", epilog=EPILOG
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="VERB")
    _register_check(actions)
    _register_bench(actions)
    _register_convert(actions)


def _register_check(actions: Verbs) -> None:
    parser = add_verb(actions, "check", "look for mistakes in the data", _check)
    parser.add_argument(
        "--records", type=int, default=10_000, help="how many; default: 10000, 0: all"
    )
    parser.add_argument(
        "--output", type=output_file, help="write an HTML page with samples"
    )
    parser.add_argument("--json", type=output_file, help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, help="keep the figures of parts there")
    add_parts(parser)
    add_config(parser)


def _register_bench(actions: Verbs) -> None:
    parser = add_verb(actions, "bench", "time the input pipeline", _bench)
    parser.add_argument(
        "--step-ms", type=float, help="milliseconds of a training step, to compare"
    )
    parser.add_argument(
        "--seconds", type=float, default=3, help="per measurement; default: 3"
    )
    parser.add_argument(
        "--workers", type=whole_numbers, help="processes to try, as 0,1,2"
    )
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    add_config(parser)


def _register_convert(actions: Verbs) -> None:
    parser = add_verb(actions, "convert", "write the data as sharded files", _convert)
    parser.add_argument("--to", choices=FORMATS, default=FORMATS[0])
    parser.add_argument("--records-per-file", type=int, default=10_000, metavar="N")
    parser.add_argument("--overwrite", action="store_true", help="start over")
    parser.add_argument("config", help="NAME[:OPTIONS], a .py file, or a run's folder")
    parser.add_argument("out", help="a folder")
    add_parts(parser)
    add_overrides(parser)


def _load(args: argparse.Namespace) -> ConfigDict:
    from clipin_jax.datatools.check import load_data_config

    return load_data_config(args.config, args.overrides)


def _check(args: argparse.Namespace) -> int:
    from clipin_jax.datatools.check import check

    config = _load(args)
    return check(
        config, records=args.records, output=args.output, json_file=args.json,
        folder=args.folder, how=read_how(args),
    )  # fmt: skip


def _bench(args: argparse.Namespace) -> int:
    from clipin_jax.datatools.bench import bench

    config = _load(args)
    return bench(
        config, step_ms=args.step_ms, seconds=args.seconds, workers=args.workers,
        as_json=args.json,
    )  # fmt: skip


def _convert(args: argparse.Namespace) -> int:
    from clipin_jax.datatools.conversion.convert import convert

    config = _load(args)
    return convert(
        config, args.out, to=args.to, records_per_file=args.records_per_file,
        overwrite=args.overwrite, how=read_how(args),
    )  # fmt: skip
