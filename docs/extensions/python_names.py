"""The reference of Python: the public names, and the classes that others build on."""

import inspect
import typing
from collections.abc import Iterable, Iterator

import clipin_jax

_GROUPS = {
    "Train": ("load_config", "train", "Run", "evaluate", "write_report"),
    "Use a model": ("load", "caption_images", "explain_image"),
    "Parts of a run": (
        "open_run", "make_encoder", "make_tokenizer", "build", "make_train_step",
    ),
    "Data, sweeps and studies": ("check_data", "open_sweep", "open_study"),
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
    "notebook.scores.Scores",
    "notebook.charts.Charts",
    "report.fragment.InlinePage",
    "datatools.advice.Advice",
    "core.learner.Learner",
    "core.optimizer_chain.Optimizer",
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
    """Returns a section for each group of `clipin_jax.__all__`, in Markdown."""
    grouped = {name for names in _GROUPS.values() for name in names}
    others = tuple(name for name in clipin_jax.__all__ if name not in grouped)
    groups = _GROUPS | ({"More": others} if others else {})
    sections = [
        f"## {title}\n\n{_documented(f'clipin_jax.{name}' for name in names)}"
        for title, names in groups.items()
    ]
    names = dict.fromkeys([*_returned(), *(f"clipin_jax.{name}" for name in _RESULTS)])
    results = _documented(names, members=True)
    return "\n".join([*sections, "## What they return and raise\n", results])


def _returned() -> Iterator[str]:
    """Yields the paths of our classes that public functions return."""
    for name in clipin_jax.__all__:
        target = getattr(clipin_jax, name)
        if not inspect.isfunction(target):
            continue
        try:
            kind = typing.get_type_hints(target).get("return")
        except NameError:  # imported for type checkers alone
            continue
        if not inspect.isclass(kind) or not kind.__module__.startswith("clipin_jax."):
            continue
        if kind.__module__.removeprefix("clipin_jax.") not in _BASES.values():
            yield f"{kind.__module__}.{kind.__qualname__}"


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
