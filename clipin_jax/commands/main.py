"""The verbs of the `clipin` command, and how it ends."""

import argparse
import logging
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import clipin_jax
from clipin_jax.commands import (
    caption,
    checkpoint,
    config,
    data,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    launch,
    plan,
    report,
    search,
    study,
    sweep,
    train,
)
from clipin_jax.config import missing_key
from clipin_jax.errors import (
    FAILED,
    INTERRUPTED,
    LOG_FORMAT,
    TRACEBACK,
    WRONG_INPUT,
    ClipinError,
    describe_error,
)
from clipin_jax.plan.devices import silence_compiler_without_tpu
from clipin_jax.processes.joined import leave

VERBS = (
    train, evaluate, caption, explain, embed, search, export, report, checkpoint,
    sweep, study, plan, launch, data, config, doctor,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    An error that the user can fix is one line on stderr. Processes of one run end
    together.
    """
    try:
        return leave(_run(argv))
    except Exception as error:
        leave(FAILED, describe_error(error))
        raise


def _run(argv: Sequence[str] | None) -> int:
    silence_compiler_without_tpu()
    logging.basicConfig(format=LOG_FORMAT)
    # Its log repeats, with tracebacks, the errors that it raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        args = parse(argv)
        code = args.call(args)
        print(end="", flush=True)  # here, where a reader that has gone is handled
        return code
    except SystemExit:  # of argparse, after --help or a wrong command line
        _drop_unread_output()
        raise
    except ClipinError as error:
        return _fail(str(error), FAILED if error.is_retryable else WRONG_INPUT)
    except (AttributeError, KeyError) as error:
        if (key := missing_key(error)) is None:
            raise
        return _fail(
            f"the config lacks the key {key}: it is of another version of clipin_jax "
            "or was written by hand; compare it with `clipin config clip:runlocal`",
            WRONG_INPUT,
        )
    except BrokenPipeError:
        if not _drop_unread_output():  # another pipe, such as that of a data worker
            raise
        return FAILED
    except KeyboardInterrupt:
        leave(INTERRUPTED, "stopped")
        print("clipin: stopped", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command, with all verbs."""
    top = argparse.ArgumentParser(
        "clipin", description="Image-text pretraining in JAX."
    )
    version = f"clipin_jax {clipin_jax.__version__}"
    top.add_argument("--version", action="version", version=version)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.register(verbs)
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; --help and mistakes end the program."""
    top = make_parser()
    args, rest = top.parse_known_args(argv)
    args.argv = list(sys.argv[1:] if argv is None else argv)
    # argparse leaves over what follows an option, and --config.KEY=VALUE.
    overrides = [x for x in rest if x[:1] != "-" or x.startswith("--config.")]
    if overrides != rest or (rest and "overrides" not in args):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
    return args


def _drop_unread_output() -> bool:
    """Returns whether a reader of our output has gone, as `head` does.

    What is left to write goes nowhere, so that Python does not fail on it at its exit.
    """
    streams = filter(None, (sys.stdout, sys.stderr))  # None: closed from the start
    unread = [stream for stream in streams if _is_unread(stream)]
    for stream in unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(unread)


def _is_unread(stream: TextIO) -> bool:
    poll = select.poll()
    try:
        stream.flush()
        poll.register(stream, 0)  # asks for nothing: errors are always reported
        return bool(poll.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError):  # not a file, as in a notebook
        return False


def _fail(message: str, code: int) -> int:
    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    leave(code, message)
    print(f"clipin: error: {message}", file=sys.stderr)
    return code
