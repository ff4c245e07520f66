"""Config files: what they are written with, and how one is found, changed and saved.

Imports ml_collections, `errors` and `registry`; a config file imports this room alone.
"""

from clipin_jax.config.clipin_plugin import CLIPIN, plug_clipin
from clipin_jax.config.explain import Entry, differing, explain_config
from clipin_jax.config.load import (
    call_file,
    config_folder,
    find_config,
    first_lines,
    list_configs,
    list_studies,
    load_config,
    missing_key,
)
from clipin_jax.config.options import parse_arg
from clipin_jax.config.origins import UNSET
from clipin_jax.config.overrides import apply_changes, apply_overrides
from clipin_jax.config.parts import with_defaults
from clipin_jax.config.recipes import (
    SCENE_TEMPLATES,
    adamw,
    cosine,
    joint_space,
    linear,
    pair_data,
    pair_evals,
    pair_source,
    run_settings,
    warmup_cosine,
)
from clipin_jax.config.serialization import (
    config_hash,
    difference,
    from_json,
    resolve,
    to_json,
)
from clipin_jax.config.shrink import run_local, run_small
from clipin_jax.config.study_recipes import FAMILY, SCENE_METRICS, on_scenes
from clipin_jax.config.tower_sizes import resnet, text, vit

__all__ = [
    "CLIPIN", "Entry", "FAMILY", "SCENE_METRICS", "SCENE_TEMPLATES", "UNSET", "adamw",
    "apply_changes", "apply_overrides", "call_file", "config_folder", "config_hash",
    "cosine", "difference", "differing", "explain_config", "find_config", "first_lines",
    "from_json", "joint_space", "linear", "list_configs", "list_studies",
    "load_config", "missing_key", "on_scenes", "pair_data", "pair_evals",
    "pair_source", "parse_arg", "plug_clipin", "resnet", "resolve", "run_local",
    "run_settings", "run_small", "text", "to_json", "vit", "warmup_cosine",
    "with_defaults",
]  # fmt: skip
