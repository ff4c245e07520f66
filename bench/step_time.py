"""Times steps of CLIP, CLIPin and a plainly written CLIP in one process.

    python bench/step_time.py                   # ViT-B/16 at 224 px, batch 16 on a CPU
    python bench/step_time.py --quick           # within a minute on two cores
    python bench/step_time.py --device gpu --torch

The steps take turns, so that other work on the machine affects all equally. The first
step of each is not counted. All figures are medians. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from clipin_jax.config import load_config, with_defaults
from clipin_jax.core import sharding
from clipin_jax.runs.build import build_experiment
from clipin_jax.runs.train_program import jit_train_step

# isort: split
import plain_clip
from flops import step_flops

from clipin_jax.plan.machines import peak_flops
from clipin_jax.study.timed_step import (
    MIB,
    TimedStep,
    compile_timed_step,
    median_ratio,
    random_state,
    take_turns,
)

# A twelfth of the depth, the vocabulary and the heads of a base model. Arithmetic and
# parameters shrink equally, widths and batch size stay, so that ratios are those of the
# full size.
QUICK = ("model.image.depth=1", "model.text.depth=1", "model.text.vocab_size=4096")
QUICK_CLIPIN = (
    "objectives.clipin.projection_dim=2048",
    "objectives.clipin.predictor_hidden_dim=512",
)
TINY = (
    "model.image.width=32", "model.image.depth=2", "model.image.num_heads=2",
    "model.image.image_size=(32,32)", "model.text.width=32", "model.text.depth=2",
    "model.text.num_heads=2", "model.text.vocab_size=64", "model.text.context_length=8",
)  # fmt: skip
TINY_CLIPIN = (
    "model.pre_projector=16",
    "objectives.clipin.projection_dim=32",
    "objectives.clipin.predictor_hidden_dim=16",
)
QUICK_SECONDS = 50  # of --quick; no round starts that would end later


Batch = dict[str, dict[str, np.ndarray]]


def library_step(config: ConfigDict, batch: Batch, device: Any) -> TimedStep:
    """Returns the library's step, as the training loop compiles it."""
    experiment = build_experiment(config, [device])
    with jax.set_mesh(experiment.mesh):
        return compile_timed_step(
            jit_train_step(experiment),
            random_state(experiment.abstract_state),
            (sharding.put(batch, experiment.mesh), experiment.hyper(0)),
            step_flops(config),
        )


def plain_step(config: ConfigDict, batch: Batch, device: Any) -> TimedStep:
    """Returns the step of a plain CLIP in flax, on the first view."""
    view = jax.device_put((batch["view1"]["image"], batch["view1"]["text"]), device)
    with jax.default_device(device):
        state = random_state(jax.eval_shape(plain_clip.init(config), view))
        step = jax.jit(plain_clip.train_step, donate_argnums=0)
        return compile_timed_step(step, state, (view,), step_flops(config))


def torch_step(config: ConfigDict, batch: Batch, device: Any) -> TimedStep:
    """Returns the step of a plain CLIP in PyTorch, on the first view."""
    import torch_clip

    where = "cpu" if device.platform == "cpu" else "cuda"
    view = batch["view1"]
    step = torch_clip.TorchStep(config, view["image"], view["text"], where)
    return TimedStep(step, step.wait, step_flops(config), step.peak_mib)


def random_batch(config: ConfigDict, seed: int = 0) -> Batch:
    """Returns pixels and token ids; every caption ends with the largest id."""
    rng = np.random.default_rng(seed)
    size, length = config.model.image.image_size, config.model.text.context_length
    vocabulary = config.model.text.vocab_size

    def view() -> dict[str, np.ndarray]:
        shape = (config.batch_size, *size, 3)
        text = rng.integers(1, vocabulary - 1, (config.batch_size, length))
        text[:, -1] = vocabulary - 1
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        return {"image": image, "text": text.astype(np.int32)}

    return {"view1": view(), "view2": view()}


def make_config(args: argparse.Namespace, clipin: bool) -> ConfigDict:
    overrides = [
        f"batch_size={args.batch_size}",
        f"model.dtype={args.dtype}",
        f"model.scan_layers={args.scan_layers}",
        f"model.remat.image={args.remat}",
        f"model.remat.text={args.remat}",
        *args.set,
    ]
    if args.quick:
        overrides += QUICK + QUICK_CLIPIN * clipin
    if args.tiny:
        overrides += TINY + TINY_CLIPIN * clipin
    option = "clipin," * clipin
    spec = f"clip:{option}data=unused,variant={args.variant}"
    return with_defaults(load_config(spec, overrides))


def make_steps(args: argparse.Namespace, device: Any) -> dict[str, TimedStep]:
    clip, clipin = make_config(args, False), make_config(args, True)
    makers = {
        "clip": (library_step, clip),
        "clipin": (library_step, clipin),
        "plain": (plain_step, clip),
    }
    if args.torch:
        if importlib.util.find_spec("torch"):
            makers["torch"] = (torch_step, clip)
        else:
            print("--torch is left out: PyTorch is not installed")
    batch, timed_steps = random_batch(clip), {}
    for name, (make, config) in makers.items():
        start = time.perf_counter()
        timed_steps[name] = make(config, batch, device)
        ready = time.perf_counter()
        timed_steps[name].warm_up()
        first = time.perf_counter() - ready
        print(
            f"{name}: compiled in {ready - start:.1f} s, first step {first:.2f} s",
            flush=True,
        )
    return timed_steps


def measure(timed_steps: dict[str, TimedStep], args: argparse.Namespace) -> None:
    """Times the steps in turns; with --quick, for a limited time."""
    start = time.perf_counter()
    rounds = take_turns(timed_steps.values(), rounds=args.rounds, steps=args.steps)
    for number in rounds:
        now = time.perf_counter()
        times = (f"{name} {t.seconds[-1]:.3f}" for name, t in timed_steps.items())
        print(f"round {number}: {', '.join(times)} s", flush=True)
        if args.quick and now - args.started + (now - start) > QUICK_SECONDS:
            break
        start = now


def figures(
    timed_steps: dict[str, TimedStep], args: argparse.Namespace, device: Any
) -> dict[str, Any]:
    """Returns the content of the last line."""
    peak = args.peak_tflops
    if args.dtype == "bfloat16" and not peak:
        listed = peak_flops(device.device_kind)
        peak = listed and listed / 1e12
    base = timed_steps["clip"]
    result: dict[str, Any] = {
        "device": device.device_kind, "dtype": args.dtype, "variant": args.variant,
        "batch_size": args.batch_size, "rounds": len(base.seconds),
        "quick": args.quick, "set": args.set,
        "scan_layers": args.scan_layers, "remat": args.remat,
        "peak_tflops": peak,
        "clipin_over_clip_floor": round(timed_steps["clipin"].flops / base.flops, 3),
    }  # fmt: skip
    for name, timed in timed_steps.items():
        if name != "clip":
            result[f"{name}_over_clip"] = median_ratio(timed.seconds, base.seconds)
            result[f"{name}_over_clip_cpu"] = median_ratio(
                timed.cpu_seconds, base.cpu_seconds
            )
        numbers = timed.figures(args.batch_size, peak)
        result |= {f"{name}_{key}": value for key, value in numbers.items()}
    # The peak of the whole process, which has the states of all steps.
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        result["device_peak_mib"] = round(stats["peak_bytes_in_use"] / MIB, 1)
    return result


def print_table(names: Sequence[str], result: dict[str, Any]) -> None:
    columns = ("ms", "ms_min", "ms_max", "cpu_ms", "images_per_second", "gflops",
               "mfu", "peak_mib", "over_clip")  # fmt: skip
    print(f"{'':8}" + "".join(f"{column:>{len(column) + 4}}" for column in columns))
    for name in names:
        cells = [(result.get(f"{name}_{column}"), len(column)) for column in columns]
        row = "".join(f"{'-' if x is None else x!s:>{n + 4}}" for x, n in cells)
        print(f"{name:8}{row}")
    print(f"CLIPin over CLIP by arithmetic: {result['clipin_over_clip_floor']}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="a twelfth of depth, vocabulary and heads; ends early",
    )
    add("--tiny", action="store_true", help="toy sizes: a test that it runs")
    add("--device", choices=("cpu", "gpu"), help="default: what jax finds")
    add("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 on a GPU")
    add("--variant", default="B/16", help="of both towers (default: %(default)s)")
    add("--batch-size", type=int, help="default: 16, on a GPU 256")
    add("--rounds", type=int, default=5, help="default: %(default)s")
    add("--steps", type=int, help="in a row and a round (default: 1, on a GPU 10)")
    add("--scan-layers", action="store_true", help="one compiled block, in a loop")
    add("--remat", default="none", help="what the backward pass keeps")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a key of both configs, such as micro_batches=4; may be repeated",
    )  # fmt: skip
    add("--torch", action="store_true", help="a plain PyTorch CLIP too")
    add("--peak-tflops", type=float, help="of the chip, for MFU where it is unknown")
    args = parser.parse_args(argv)
    args.started = time.perf_counter()
    if args.device is None:
        args.device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    on_gpu = args.device == "gpu"
    args.dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    args.batch_size = args.batch_size or (256 if on_gpu else 16)
    args.steps = args.steps or (10 if on_gpu else 1)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    # PyTorch needs memory of the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    args = parse_args(argv)
    try:
        device = jax.devices(args.device)[0]
    except RuntimeError:
        sys.exit(f"--device {args.device}: jax finds no such device")
    print(f"{device.device_kind}: variant {args.variant}, batch {args.batch_size}, "
          f"{args.dtype}, {os.cpu_count()} cores")  # fmt: skip
    timed_steps = make_steps(args, device)
    measure(timed_steps, args)
    result = figures(timed_steps, args, device)
    print_table(list(timed_steps), result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
