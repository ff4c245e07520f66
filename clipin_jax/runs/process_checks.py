"""What all processes of a run must have in common, checked before they share a step."""

from pathlib import Path

from ml_collections import ConfigDict

from clipin_jax import storage
from clipin_jax.config import difference, with_defaults
from clipin_jax.processes.agreement import (
    check_same,
    check_shared,
    code_facts,
    device_facts,
)
from clipin_jax.processes.joined import this_group

# Where data lie, which may differ between hosts: `check_data` compares what is there.
_PLACES = ("data.source.files", "data.source.folder", "data.source.index")


def check_command(config: ConfigDict, workdir: str | Path) -> None:
    """Checks that all processes train the same config, with the same code and devices.

    Args:
      config: of the run.
      workdir: its folder, by path or URL; a path is one of a disk that all share.

    Raises:
      ClipinError: a process differs, and in what; or does not see the folder.
    """
    if (group := this_group()) is None:
        return
    check_same(group, code_facts() | _config_facts(config), "read its config")
    path = storage.full_path(workdir)
    if not storage.is_remote(path):
        check_shared(group, Path(path))
    check_same(group, device_facts(), "find its devices")


def check_data(length: int, fingerprint: str) -> None:
    """Checks that all processes read the same training data.

    Args:
      length: number of records.
      fingerprint: of the source.

    Raises:
      ClipinError: a process differs, and in what.
    """
    if (group := this_group()) is None:
        return
    facts = {
        "number of records": f"{length:,}",
        "fingerprint of the data": fingerprint,
    }
    check_same(group, facts, "open its data")


def _config_facts(config: ConfigDict) -> dict[str, str]:
    """Returns the value of each key, as text."""
    everything = difference(ConfigDict(), with_defaults(config))
    return {
        f"config {key}": repr(value)
        for key, (_, value) in everything.items()
        if key not in _PLACES
    }
