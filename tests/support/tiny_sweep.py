"""A config of a few small steps, whose learning rate and weight decay are varied."""

from pathlib import Path

CONFIG = """
from clipin_jax.config import load_config


def get_config(arg=None):
    scenes = dict(name="scenes", split="val", length=16, size=32)
    retrieval = dict(type="retrieval", every_steps=1, source=scenes)
    changes = {
        "total_steps": 4,
        "batch_size": 16,
        "health_every_steps": 0,
        "model.image.width": 32,
        "model.image.depth": 1,
        "model.text.width": 32,
        "model.text.depth": 1,
        "model.text.context_length": 16,
        "data.source.length": 64,
        "log.tensorboard": False,
        "checkpoint.every_steps": 1,
        "evals": dict(retrieval=retrieval),
    }
    return load_config("clip:runlocal", changes=changes)
"""
RATE, DECAY = "optim.learning_rate.peak", "optim.weight_decay"
METRIC = "retrieval/mean_recall"


def write_config(folder: Path) -> Path:
    """Writes the config's file."""
    path = folder / "tiny.py"
    path.write_text(CONFIG)
    return path


def ends_in_logs(home: Path) -> dict[str, int]:
    """Returns how often each point came to its end."""
    logs = (home / "logs" / "points").glob("*.txt")
    return {path.stem: path.read_text().count("clipin: done;") for path in logs}
