"""The reference of the keys that recipes set and the run reads itself."""

from clipin_jax.config import UNSET, explain_config
from clipin_jax.config.descriptions import RECIPE_KEYS

_TITLES = {
    "": "The run",
    "target": "Target network",
    "mesh": "Devices",
    "sharding": "Split state",
    "log": "Loggers",
    "model": "Model",
    "objectives": "Objectives",
    "optim": "Optimizer",
    "KEY": "Schedules",
    "data": "Data",
    "evals": "Evaluations",
}
SHOWN = "clip"  # the config whose values stand as defaults


def page() -> str:
    """Returns a section for each group, in Markdown."""
    values = {key: entry.value for key, entry in explain_config(SHOWN).items()}
    groups: dict[str, list[str]] = {}
    for key in RECIPE_KEYS:
        group = key.partition(".")[0] if "." in key else ""
        groups.setdefault(group, []).append(key)
    return "\n".join(
        f"## {_TITLES[group]}\n\n" + "\n".join(_entry(key, values) for key in keys)
        for group, keys in groups.items()
    )


def _entry(key: str, values: dict[str, object]) -> str:
    default = ""
    if key in values:
        value = values[key]
        text = "Required" if value is UNSET else f"Default: `{value!r}`"
        default = f" {text}."
    return f"```{{confval}} {key}\n\n{RECIPE_KEYS[key]}{default}\n```\n"
