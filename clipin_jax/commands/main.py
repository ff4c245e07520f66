"""The verbs of the `clipin` command, and how it ends."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from clipin_jax.commands import (
    caption,
    config,
    data,
    doctor,
    evaluate,
    explain,
    report,
    study,
    train,
)
from clipin_jax.config import missing_key
from clipin_jax.errors import FAILED, INTERRUPTED, ClipinError

VERBS = (train, evaluate, caption, explain, report, study, data, config, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    An error that the user can fix is one line on stderr.
    """
    logging.basicConfig(format="clipin: %(levelname)s: %(message)s")
    try:
        args = parse(argv)
        return args.call(args)
    except ClipinError as error:
        return _fail(str(error))
    except (AttributeError, KeyError) as error:
        if (key := missing_key(error)) is None:
            raise
        return _fail(
            f"the config lacks the key {key}: it is of another version of clipin_jax "
            "or was written by hand; compare it with `clipin config clip:runlocal`"
        )
    except BrokenPipeError:  # the reader of our output has seen enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("clipin: stopped", file=sys.stderr)
        return INTERRUPTED


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; --help and mistakes end the program."""
    top = argparse.ArgumentParser(
        "clipin", description="Image-text pretraining in JAX."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.register(verbs)
    args, rest = top.parse_known_args(argv)
    # argparse leaves over what follows an option, and --config.KEY=VALUE.
    overrides = [x for x in rest if x[:1] != "-" or x.startswith("--config.")]
    if overrides != rest or (rest and "overrides" not in args):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
    return args


def _fail(message: str) -> int:
    print(f"clipin: error: {message}", file=sys.stderr)
    return FAILED
