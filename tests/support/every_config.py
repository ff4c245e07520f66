"""The configs of the repository, with the options that each of them accepts."""

from clipin_jax.config import list_configs, load_config
from clipin_jax.errors import ClipinError

OPTIONS = ("clipin", "as_released", "tower=RN50", "finetune", "lit")


def every_spec() -> list[str]:
    """Lists all configs in their smallest size, plain and with each option."""
    specs = []
    for name in list_configs():
        accepted = filter(loads, (f"{name}:runlocal,{option}" for option in OPTIONS))
        specs += [f"{name}:runlocal", *accepted]
    return specs


def loads(spec: str) -> bool:
    """Whether a config accepts its options."""
    try:
        load_config(spec)
    except ClipinError as error:
        assert "option" in str(error), error
        return False
    return True
