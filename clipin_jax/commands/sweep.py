"""`clipin sweep`: trains the points of a space of configs, and shows the best."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clipin_jax import storage
from clipin_jax.commands.parsing import Verbs, add_overrides, add_verb
from clipin_jax.errors import DONE, ClipinError
from clipin_jax.launchers import Job, make_engine, render, submit
from clipin_jax.launchers.job import job_name

if TYPE_CHECKING:
    from clipin_jax.sweep.definition import Sweep

EPILOG = """
examples:
  clipin sweep quickstart optim.learning_rate.peak=1e-4,1e-3 optim.weight_decay=0,0.1
  clipin sweep quickstart optim.learning_rate.peak=1e-4..1e-2:log --trials 12 --jobs 2
  clipin sweep quickstart optim.learning_rate.peak=1e-4..1e-2:log --trials 40 \\
    --method tpe --prune asha                     # needs clipin_jax[sweep]
  clipin sweep my_sweep.py --dry-run              # get_sweep(arg), see sweep_file.py
  clipin sweep my_sweep.py --on slurm --workers 4 --set time=4:00:00
  clipin sweep --worker runs/sweeps/quickstart    # helps with a sweep, on any machine
  clipin sweep best runs/sweeps/quickstart --write best.py

KEY=a,b,c are values, KEY=LOW..HIGH[:log][:int] is a range, KEY=VALUE holds for all
points. The same command runs only what is missing. Exit codes: 0 done, 75 stopped with
everything saved, 1 when points failed.
"""
_BEST = "best"


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "sweep", "train a grid or a search of configs, and show the best", call,
        epilog=EPILOG,
    )  # fmt: skip
    add = parser.add_argument
    add("config", nargs="?", help="NAME[:OPTIONS], a .py file, or `best DIR`")
    add_overrides(parser)
    add("--workdir", help="default: runs/sweeps/NAME")
    add("--jobs", type=int, default=1, help="runs at a time; default: 1")
    add("--metric", action="append", metavar="EVALUATOR/METRIC[:min]",
        help="what is made best; default: checkpoint.best_metric or the first headline",
    )  # fmt: skip
    add("--method", help="grid, zip, random, quasi, tpe, gp or nsga2")
    add("--zip", action="store_true", help="pair the values of the keys: --method zip")
    add("--trials", type=int, help="points of a random sweep or a search")
    add("--seeds", type=int, help="runs of each point, averaged; default: 1")
    add("--prune", help="stop bad runs: asha, hyperband, median or wilcoxon")
    add("--schedule", help="fixed (default), or open: no schedule looks at the end")
    add("--dry-run", action="store_true", help="list the points and their cost")
    add("--worker", metavar="DIR", help="train points of the sweep in this folder")
    add(
        "--on",
        metavar="ENGINE",
        help="train by workers on slurm, jobset, skypilot or local",
    )
    add("--workers", type=int, default=1, help="with --on: how many; default: 1")
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="with --on: a setting of the engine, see launch/site.toml",
    )  # fmt: skip
    add("--write", metavar="FILE", type=Path, help="of best: write its config")


def call(args: argparse.Namespace) -> int:
    """Runs a sweep, works on one, or shows the best point of one."""
    from clipin_jax.sweep.runner import preview, run_sweep, show_best, work
    from clipin_jax.sweep.sweep_file import load_sweep, typed_items

    if args.worker:
        return work(Path(args.worker), args.jobs)
    if args.config == _BEST:
        if len(args.overrides) != 1:
            raise ClipinError("give one folder: clipin sweep best DIR")
        return show_best(Path(args.overrides[0]), args.write)
    if not args.config:
        raise ClipinError("give a config or a sweep's file: clipin sweep --help")
    options = {
        "method": "zip" if args.zip else args.method,
        **{k: getattr(args, k) for k in ("trials", "seeds", "metric", "prune")},
        "schedule": args.schedule,
    }
    sweep = load_sweep(args.config, typed_items(args.overrides), options)
    if args.on:
        return _launch(sweep, args)
    if args.dry_run:
        return preview(sweep, args.workdir, args.jobs)
    return run_sweep(sweep, args.workdir, args.jobs)


def _launch(sweep: Sweep, args: argparse.Namespace) -> int:
    """Submits workers that share the folder of the sweep; they wait for nobody."""
    from clipin_jax.sweep.definition import open_home
    from clipin_jax.sweep.runner import default_home

    engine = make_engine(args.on, None, args.set)
    if args.workers < 1:
        raise ClipinError(f"--workers is {args.workers}: it must be at least 1")
    home = storage.full_path(args.workdir or default_home(sweep))
    is_url = storage.is_remote(home)
    # Links stay: workers may know the folder by this name alone.
    home = home if is_url else os.path.abspath(home)
    if is_url or not engine.sees(home):
        raise ClipinError(
            f"workers of a sweep share a folder, and {args.on} does not see {home}: "
            "give --workdir on a disk that this machine and the workers mount "
            "(jobset.disk, skypilot.disk), or use slurm"
        )
    words = ("clipin", "sweep", "--worker", home, "--jobs", str(args.jobs))
    job = Job(job_name(home), words, home, array=args.workers)
    files = render(job, engine)
    if args.dry_run:
        print("".join(files.values()), end="")
        return DONE
    launch = submit(job, engine, lambda: open_home(sweep, Path(home)))
    print(
        f"clipin: {launch.engine} has taken {args.workers} workers as "
        f"{' '.join(launch.ids)}; clipin launch status {home}; the same command with "
        "--dry-run and without --on lists what is done"
    )
    return DONE
