"""A study of two methods and two seeds, with an evaluator of another package."""

from clipin_jax.study.study_file import PlannedRun

STUDY = """
from clipin_jax.config import parse_options

def get_study(arg=None):
    options = parse_options(arg, steps=3)
    scenes = dict(name="scenes", split="val", length=16, size=32)
    retrieval = dict(type="retrieval", every_steps=1, source=scenes)
    constant = dict(type="outside:Constant", every_steps=0, value=3.0)
    return dict(
        title="A test",
        question="Does it run?",
        methods={
            "CLIP": dict(config="clip:runlocal"),
            "CLIP, narrow": dict(
                config="clip:runlocal", changes={"model.embed_dim": 16}, note="half"
            ),
        },
        baseline="CLIP",
        metrics={"retrieval/mean_recall": "mean recall", "constant/error": "error"},
        seeds=[0, 1],
        changes={
            "total_steps": options.steps,
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
            "evals": dict(retrieval=retrieval, constant=constant),
        },
    )
"""
# An evaluator of another package, a module `outside` on PYTHONPATH.
EVALUATOR = """
from clipin_jax.evaluators.base import Figure

class Constant:
    task = "constant"
    figures = {"error": Figure("{:.2f} dB", better="lower")}

    def __init__(self, encoder, value):
        self._value = value

    def run(self, state):
        yield "error", self._value
"""
RUNS = [PlannedRun(m, "", s) for s in (0, 1) for m in ("CLIP", "CLIP, narrow")]
