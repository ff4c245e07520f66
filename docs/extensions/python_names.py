"""The reference of Python: the public names, and the classes that others build on."""

import inspect
from collections.abc import Iterable

import clipin_jax

_GROUPS = {
    "Train": ("load_config", "train", "evaluate", "write_report"),
    "Use a model": ("load", "caption_images", "explain_image"),
    "Parts of a run": (
        "open_run", "make_encoder", "make_tokenizer", "build", "make_train_step",
    ),
    "Errors": ("ClipinError",),
}  # fmt: skip
# What the functions return, and the error that a scheduler may try again.
_RESULTS = (
    "inference.model.Model",
    "inference.explain.Explanation",
    "inference.build.OpenedRun",
    "inference.encoder.Encoder",
    "inference.encoder.Comparison",
    "inference.encode_fns.ModelState",
    "inference.feature_cache.FeatureCache",
    "inference.open_model.OpenedModel",
    "core.learner.Learner",
    "core.state.TrainState",
    "errors.RetryableError",
)
_BASES = {
    "Objectives": "objectives.base",
    "Towers": "models.base",
    "Sources": "data.source",
    "Evaluators": "evaluators.base",
    "Transforms of views": "data.image.transform",
    "Tokenizers": "data.text.tokenizer",
    "Loggers": "runs.loggers.base",
    "Types of arrays": "types",
}
# What methods of the protocols take or return.
_VALUES = ("objectives.losses.Mean", "models.layers.LogitFactors")


def public_names() -> str:
    """Returns a section for each group of `clipin_jax.__all__`, in Markdown.

    Raises:
      ValueError: a public name is in no group.
    """
    grouped = {name for names in _GROUPS.values() for name in names}
    if differing := grouped ^ {*clipin_jax.__all__}:
        raise ValueError(f"names in no group, or in one alone: {sorted(differing)}")
    sections = [
        f"## {title}\n\n{_documented(f'clipin_jax.{name}' for name in names)}"
        for title, names in _GROUPS.items()
    ]
    results = _documented((f"clipin_jax.{name}" for name in _RESULTS), members=True)
    return "\n".join([*sections, "## What they return and raise\n", results])


def base_classes() -> str:
    """Returns a section for each module of protocols and bases, in Markdown."""
    sections = [
        f"## {title}\n\n```{{eval-rst}}\n.. automodule:: clipin_jax.{module}\n"
        f"   :members:\n```\n"
        for title, module in _BASES.items()
    ]
    values = _documented((f"clipin_jax.{name}" for name in _VALUES), members=True)
    return "\n".join([*sections, "## Values\n", values])


def _documented(names: Iterable[str], *, members: bool = False) -> str:
    """Returns directives of autodoc for functions and classes."""
    lines = []
    for name in names:
        module, _, attribute = name.rpartition(".")
        target = getattr(__import__(module, fromlist=[attribute]), attribute)
        kind = "class" if inspect.isclass(target) else "function"
        if inspect.isclass(target) and issubclass(target, Exception):
            kind = "exception"
        lines.append(f".. auto{kind}:: {name}")
        lines += ["   :members:", ""] if members else [""]
    return "```{eval-rst}\n" + "\n".join(lines) + "```\n"
