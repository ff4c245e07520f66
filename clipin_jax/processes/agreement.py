"""Whether all processes of a run have the same config, code and data, before a step.

Devices that run different programs, or different shapes, wait for each other for ever.
"""

import collections
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import jax

import clipin_jax
from clipin_jax.errors import ClipinError, shorten
from clipin_jax.processes.group import Group

_SEEN_SECONDS = 60.0  # in which a network disk shows a new file to other hosts
_SHOWN = 3  # differing facts in a message


def check_same(group: Group, facts: Mapping[str, str], doing: str) -> None:
    """Checks that all processes give the same facts.

    Args:
      group: of this process.
      facts: name -> value, both as a message shows them.
      doing: what a process does before it comes here, for one that does not.

    Raises:
      ClipinError: a process differs, by name, and in what; or it did not come.
    """
    given: list[dict[str, str]] = group.gather("facts", dict(facts), doing)
    counts = collections.Counter(tuple(sorted(each.items())) for each in given)
    most = max(counts.values())
    # What most have; process 0 decides where there are as many of several.
    usual = next(each for each in given if counts[tuple(sorted(each.items()))] == most)
    other = next((i for i, each in enumerate(given) if each != usual), None)
    if other is None:
        return
    reference = given.index(usual)
    differing = [
        name
        for name in {**usual, **given[other]}
        if usual.get(name) != given[other].get(name)
    ]
    shown = "; ".join(
        f"{name} is {_value(given[other], name)}, not {_value(usual, name)}"
        for name in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ClipinError(
        f"{group.name(other)} differs from {group.name(reference)}: {shown}{more}: "
        "start all processes with the same command, package and data"
    )


def _value(facts: Mapping[str, str], name: str) -> str:
    return shorten(facts[name], 60) if name in facts else "absent"


def code_facts() -> dict[str, str]:
    """Returns the versions that all processes must have."""
    return {
        "clipin_jax": f"{clipin_jax.__version__} (sources {_source_hash()})",
        "jax": jax.__version__,
    }


def device_facts() -> dict[str, str]:
    """Returns the devices that all processes must have; starts them."""
    devices = jax.local_devices()
    return {"devices": f"{len(devices)} x {devices[0].device_kind}"}


def _source_hash() -> str:
    """Returns a short hash of the files of the package."""
    digest = hashlib.sha256()
    folder = Path(clipin_jax.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def check_shared(group: Group, folder: Path) -> None:
    """Checks that all processes see what process 0 writes into a folder.

    A folder that was made for this is removed again.

    Raises:
      ClipinError: a process does not see it, by name; or process 0 cannot write.
    """
    with contextlib.ExitStack() as stack:
        token, problem = "", ""
        if group.index == 0:
            try:
                token = _write_token(folder, stack)
            except OSError as error:
                problem = error.strerror or str(error)
        token, problem = group.of_first("token", [token, problem])
        if problem:
            raise ClipinError(
                f"cannot write {folder}: {problem}; choose another --workdir"
            )
        sees = _waits_for(folder / token)
        seen = group.gather("seen", sees, f"look for {folder}", 2 * _SEEN_SECONDS)
    blind = [index for index, sees in enumerate(seen) if not sees]
    if blind:
        raise ClipinError(
            f"{group.names(blind)} does not see what {group.name(0)} writes into "
            f"{folder}: name a folder on a disk that all hosts share in --workdir"
        )


def _write_token(folder: Path, stack: contextlib.ExitStack) -> str:
    """Writes a file of a new name, which the stack removes; returns its name."""
    if not folder.exists():
        folder.mkdir(parents=True)
        stack.callback(_remove_empty, folder)
    token = f".seen_{secrets.token_hex(8)}.tmp"
    (folder / token).touch()
    stack.callback((folder / token).unlink, missing_ok=True)
    return token


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _waits_for(path: Path) -> bool:
    end = time.monotonic() + _SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return False
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # makes a network disk look again
        time.sleep(0.2)
    return True
