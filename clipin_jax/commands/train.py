"""`clipin train`: trains a model, or resumes a run."""

import argparse
import math
import sys
import time

from clipin_jax.commands.parsing import (
    PLACE,
    Verbs,
    add_config,
    add_processes,
    add_verb,
    join_processes,
    listing,
)
from clipin_jax.config import (
    followers,
    list_configs,
    load_config,
    named_run,
    override_key,
)
from clipin_jax.errors import REQUEUE, ClipinError
from clipin_jax.runs.interrupt import terminated_with

EPILOG = """
examples:
  clipin train quickstart
  clipin train quickstart:clipin --workdir runs/first optim.learning_rate=1e-3
  clipin train runs/first                         # resumes that run
  clipin train runs/first total_steps=2000        # goes on when it is done
  clipin train runs/first --profile 10:15         # traces steps 10 to 15
  clipin train runs/first --max-time 3h50m        # saves before a limit of 4 hours

Options follow the colon. KEY=VALUE sets any key that `clipin config NAME` lists; adds
an entry, as in evals.second={'type': 'retrieval', ...}; or removes one, as in
evals.retrieval=None. The same command resumes a run that was stopped.
Exit codes: 0 done; 75 stopped with everything saved; 78 change the config or the data
first; 1 failed, the same command may succeed later; 2 wrong options.

configs:
"""


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "train", "train a model, or resume a run", call,
        epilog=EPILOG + listing(list_configs()),
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--workdir", help="a path or URL; default: runs/NAME")
    parser.add_argument(
        "--profile", default="", metavar="STEPS",
        help="trace these steps for xprof and TensorBoard, in the run's folder: "
        "FIRST:LAST, or COUNT after the first ones",
    )  # fmt: skip
    parser.add_argument(
        "--max-time", metavar="TIME",
        help="stop with everything saved (75) before this much time has passed, such "
        "as 3h50m or 600 seconds",
    )  # fmt: skip
    group = add_processes(parser)
    group.add_argument(
        "--local-processes", metavar="N", help="start so many on this machine"
    )


def call(args: argparse.Namespace) -> int:
    """Trains, in the folder of the given run or in one of the config's name."""
    start = time.monotonic()
    with terminated_with(REQUEUE):  # until the run itself catches signals
        return _call(args, start)


def _call(args: argparse.Namespace, start: float) -> int:
    from clipin_jax.runs.compile_cache import use_compile_cache
    from clipin_jax.training.loop import train
    from clipin_jax.training.time_limit import parse_seconds

    limit = parse_seconds(args.max_time) if args.max_time else math.inf
    if args.local_processes not in (None, "1"):
        return _train_local(args)
    join_processes(args)
    config = load_config(args.config, args.overrides)
    run = named_run(args.config)
    if not (args.workdir or run or config.name):
        raise ClipinError("name is '', which names no folder in runs: give --workdir")
    folder = run or f"runs/{config.name}"
    for key in map(override_key, args.overrides if run else ()):
        if following := followers(config, key):
            print(f"clipin: {key} also sets {', '.join(following)}", file=sys.stderr)
    use_compile_cache()
    try:
        return train(
            config, args.workdir or folder, profile=args.profile, end=start + limit
        )
    except KeyboardInterrupt:  # after everything has been saved
        return REQUEUE


def _train_local(args: argparse.Namespace) -> int:
    """Starts the same command as several processes of this machine."""
    from clipin_jax.processes.local import local_count, run_local

    given = {f"--{name}": getattr(args, name) for name in PLACE}
    count = local_count(args.local_processes, given)
    config = load_config(args.config, args.overrides)
    if config.batch_size % count:
        raise ClipinError(
            f"--local-processes is {count}, among which batch_size = "
            f"{config.batch_size} cannot be shared equally: change one of them"
        )
    rest, skip = [], False
    for word in args.argv:
        if not skip and not word.startswith("--local"):
            rest.append(word)
        skip = word.startswith("--local") and "=" not in word
    return run_local(count, (sys.executable, "-m", "clipin_jax", *rest))
