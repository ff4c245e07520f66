"""Configs: recipes that pages call; finding, changing, explaining and saving them.

Imports ml_collections, `errors` and `registry`. Pages (configs/*.py) import this room
alone.
"""

from clipin_jax.config.class_arguments import groups as config_groups
from clipin_jax.config.class_arguments import with_defaults
from clipin_jax.config.clipin_plugin import CLIPIN, plug_clipin
from clipin_jax.config.key_checks import check_keys, check_lists, check_types
from clipin_jax.config.key_links import followers, links
from clipin_jax.config.key_listing import (
    Entry,
    base_page,
    changes_of_page,
    config_values,
    differing,
    explain_config,
)
from clipin_jax.config.key_origins import UNSET
from clipin_jax.config.load import (
    call_file,
    config_folder,
    find_config,
    list_configs,
    list_purposes,
    list_studies,
    load_config,
    missing_key,
    named_run,
    split_spec,
)
from clipin_jax.config.overrides import apply_changes, apply_overrides, override_key
from clipin_jax.config.page_options import parse_options
from clipin_jax.config.recipes import (
    SCENE_TEMPLATES,
    adamw,
    cosine,
    fine_tune,
    joint_space,
    linear,
    lock_image_tower,
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
from clipin_jax.config.shrink import shrink_runlocal, shrink_small
from clipin_jax.config.study_recipes import (
    METHODS,
    SCENE_METRICS,
    SMALL_TOWERS,
    scenes_changes,
    short_run,
)
from clipin_jax.config.tower_sizes import resnet_sizes, text_sizes, vit_sizes

__all__ = [
    "CLIPIN", "Entry", "METHODS", "SCENE_METRICS", "SCENE_TEMPLATES", "SMALL_TOWERS",
    "UNSET", "adamw", "apply_changes", "apply_overrides", "base_page", "call_file",
    "changes_of_page", "check_keys", "check_lists", "check_types", "config_folder",
    "config_groups", "config_hash", "config_values", "cosine", "difference",
    "differing", "explain_config", "find_config", "fine_tune", "followers", "from_json",
    "joint_space", "linear", "links", "list_configs", "list_purposes", "list_studies",
    "load_config", "lock_image_tower", "missing_key", "named_run", "override_key",
    "pair_data", "pair_evals", "pair_source", "parse_options", "plug_clipin",
    "resnet_sizes", "resolve", "run_settings", "scenes_changes", "short_run",
    "shrink_runlocal", "shrink_small", "split_spec", "text_sizes", "to_json",
    "vit_sizes", "warmup_cosine", "with_defaults",
]  # fmt: skip
