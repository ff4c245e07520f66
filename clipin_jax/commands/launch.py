"""`clipin launch`: hands a run to a scheduler, and asks it how the run is."""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.commands.parsing import Verbs, add_config, add_verb
from clipin_jax.config import (
    check_keys,
    check_lists,
    config_folder,
    find_config,
    load_config,
    split_spec,
)
from clipin_jax.errors import DONE, FAILED, ClipinError
from clipin_jax.launchers import ENGINES, Job, make_engine, read_launch, render, submit
from clipin_jax.launchers.engine import Engine
from clipin_jax.launchers.job import job_name
from clipin_jax.launchers.submission import engine_for

EPILOG = f"""
examples:
  clipin launch clip:data=/shared/coco --on slurm --nodes 2 --gpus 8 --workdir runs/one
  clipin launch clip:data=gs://bucket/coco --on jobset --workdir gs://bucket/runs/one \\
      --set tpu=v5e:4x4 --set image=IMAGE --plan --dry-run
  clipin launch status runs/one
  clipin launch logs runs/one --follow
  clipin launch stop runs/one                     # saves, then ends

Engines: {", ".join(ENGINES)}. Their settings are in site.toml of this folder or of
~/.config/clipin_jax, and launch/site.toml lists them; --set KEY=VALUE changes one.
"""
_STDERR = 2  # file descriptor; standard output is for the job
_SIZES = {"nodes": "machines", "gpus": "of a node", "time": "limit of one start"}


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    parser = add_verb(
        verbs, "launch", "train on a scheduler: local, Slurm, GKE, TPU VMs, clouds",
        call, EPILOG,
    )  # fmt: skip
    add_config(parser)
    parser.add_argument("--on", metavar="ENGINE", help=", ".join(ENGINES))
    parser.add_argument(
        "--workdir", help="the run's folder, where the engine reaches it"
    )
    parser.add_argument("--site", metavar="FILE", help="TOML with the site's settings")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting"
    )
    for name, purpose in _SIZES.items():
        parser.add_argument(f"--{name}", help=f"a setting: {purpose}")
    parser.add_argument("--name", help="of the job; default: the folder's")
    parser.add_argument(
        "--processes", type=int, default=0, help="with --on local: processes of the run"
    )
    parser.add_argument(
        "--plan", action="store_true", help="refuse a run that does not fit the machine"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the job, submit nothing"
    )
    parser.add_argument(
        "--follow", action="store_true", help="with logs: go on printing"
    )


def call(args: argparse.Namespace) -> int:
    """Launches a run, or does what the verb says with one that was launched."""
    if verb := _RUN_VERBS.get(args.config):
        if len(args.overrides) != 1:
            raise ClipinError(f"give one folder: clipin launch {args.config} RUN")
        return verb(storage.full_path(args.overrides[0]), args)
    return _launch(args)


def _launch(args: argparse.Namespace) -> int:
    if args.on is None:
        raise ClipinError(f"give an engine: --on {'|'.join(ENGINES)}")
    sizes = [f"{k}={v}" for k in _SIZES if (v := getattr(args, k)) is not None]
    engine = make_engine(args.on, args.site, [*args.set, *sizes])
    job = _job(args, engine)
    config = load_config(args.config, args.overrides)
    check_keys(config)
    check_lists(config)
    files = render(job, engine)
    _check_slices(config, engine)
    if args.plan:
        _check_fits(args, engine)
    _show(files)
    if args.dry_run:
        return DONE
    launch = submit(job, engine)
    print(
        f"clipin: {launch.engine} has taken the job as {' '.join(launch.ids)}; "
        f"clipin launch status {launch.workdir}",
        file=sys.stderr,
    )
    return DONE


def _job(args: argparse.Namespace, engine: Engine) -> Job:
    path = find_config(split_spec(args.config)[0])
    is_run = path.stem == "config" and path.suffix != ".py"
    workdir = args.workdir or (str(path.parent) if is_run else "")
    if not workdir:
        raise ClipinError("give the run's folder: --workdir DIR")
    workdir = storage.full_path(workdir)
    is_named = path.is_relative_to(config_folder())
    is_seen = storage.is_remote(args.config) or engine.sees(str(path))
    if not is_named and not is_seen:
        raise ClipinError(
            f"config {args.config} is a file of this machine, which {args.on} cannot "
            "reach: name one of the package, or the URL of a config.json"
        )
    command = ["clipin", "train", args.config, *args.overrides, "--workdir", workdir]
    if args.processes:
        if args.on != "local":
            raise ClipinError(f"--processes is for --on local; {args.on} has settings")
        command += ["--local-processes", str(args.processes)]
    return Job(args.name or job_name(workdir), tuple(command), workdir)


def _check_slices(config: ConfigDict, engine: Engine) -> None:
    slices = getattr(engine, "slices", 1)
    if slices > 1 and config.mesh.dcn != slices:
        raise ClipinError(
            f"the job has {slices} slices, but mesh.dcn is {config.mesh.dcn}: add "
            f"mesh.dcn={slices}"
        )


def _check_fits(args: argparse.Namespace, engine: Engine) -> None:
    """Plans in a process of its own: jax starts with other devices there."""
    if not (machine := engine.machine()):
        raise ClipinError(
            f"--plan does not know the chips of {args.on}: --set chip=h100, and --gpus"
        )
    planner = [sys.executable, "-m", "clipin_jax", "plan", args.config]
    command = [*planner, *args.overrides, "--on", machine, "--quick"]
    done = subprocess.run(command, stdout=_STDERR, check=False)
    if done.returncode:
        does_not = "does not fit" if done.returncode == FAILED else "has no plan for"
        raise ClipinError(
            f"the run {does_not} {machine}: nothing was submitted, see above"
        )


def _show(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        if len(files) > 1:
            print(f"==> {name} <==")
        print(text, end="")


def _status(workdir: str, args: argparse.Namespace) -> int:
    launch = read_launch(workdir)
    state = engine_for(launch).state(launch)
    print(f"{launch.engine}: {state.text}, submitted {launch.submitted}")
    print(f"run: {_progress(workdir)}")
    return DONE


def _progress(workdir: str) -> str:
    if storage.exists(storage.join(workdir, "DONE")):
        return "done"
    if storage.is_remote(workdir):
        return "not done"
    from clipin_jax.runs.folder import load_folder
    from clipin_jax.runs.loggers.json_lines import read_metrics

    if not (Path(workdir) / "config.json").is_file():
        return "has not begun"
    rows = read_metrics(Path(workdir))
    step = rows[-1]["step"] if rows else 0
    return f"step {step} of {load_folder(Path(workdir)).total_steps}"


def _logs(workdir: str, args: argparse.Namespace) -> int:
    launch = read_launch(workdir)
    command = engine_for(launch).log_command(launch, args.follow)
    return subprocess.run(command, check=False).returncode


def _stop(workdir: str, args: argparse.Namespace) -> int:
    launch = read_launch(workdir)
    engine_for(launch).stop(launch)
    print(f"clipin: {launch.engine} was asked to stop {' '.join(launch.ids)}")
    return DONE


_RUN_VERBS = {"status": _status, "logs": _logs, "stop": _stop}
