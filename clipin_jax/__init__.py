"""Image-text pretraining in JAX, with the CLIPin plug-in for any two-tower host.

The public names are imported on first use, so that `import clipin_jax` is instant.
"""

import importlib
import sys
from typing import Any

__version__ = "0.1.0"

# No module of this folder has the name of a public one: importing it would shadow it.
_PUBLIC = {
    "ClipinError": "clipin_jax.errors",
    "Run": "clipin_jax.notebook.run",
    "build": "clipin_jax.core.learner",
    "caption_images": "clipin_jax.inference.caption",
    "check_data": "clipin_jax.notebook.data_check",
    "evaluate": "clipin_jax.training.evaluate",
    "explain_image": "clipin_jax.inference.explain",
    "load": "clipin_jax.inference.model",
    "load_config": "clipin_jax.config",
    "make_encoder": "clipin_jax.inference.build",
    "make_tokenizer": "clipin_jax.data.text",
    "make_train_step": "clipin_jax.core.step",
    "open_run": "clipin_jax.inference.build",
    "open_study": "clipin_jax.notebook.results",
    "open_sweep": "clipin_jax.notebook.results",
    "train": "clipin_jax.notebook.run",
    "write_report": "clipin_jax.report",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clipin_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if "IPython" in sys.modules:
    importlib.import_module("clipin_jax.notebook.ipython_setup").set_up()
