"""The folder of compiled programs, from which the second start of a run reads them.

jax writes, reads and bounds it; several processes may use it at once. Only commands
turn it on: `import clipin_jax` and the functions called from Python leave jax as it is.
Whoever names a folder with JAX_COMPILATION_CACHE_DIR gets jax's own settings.
"""

import contextlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock

from clipin_jax.errors import ClipinError, first_line

_FOLDER, _BOUND = "jax_compilation_cache_dir", "jax_compilation_cache_max_size"
_NO_BOUND = -1
_SETTINGS: dict[str, Any] = {
    # When a new program would pass it, jax removes those not read for the longest time.
    _BOUND: 5 * 2**30,
    # Programs that compile faster are not worth a file.
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    # XLA's own cache of GPU kernels knows no bound. Its path would be in the key of
    # each program, so that a folder that has moved would hold no program.
    "jax_persistent_cache_enable_xla_caches": "none",
}
# How jax names the lock, and the two files of a program.
_LOCK, _PROGRAM, _LAST_READ = ".lockfile", "-cache", "-atime"
_LOCK_SECONDS, _REPAIR_SECONDS = 10, 1
_FAILURE = re.compile(
    r"(?s)Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)"
)


def use_compile_cache() -> None:
    """Turns the cache on for this process; one warning if that is not possible."""
    try:
        open_compile_cache()
    except ClipinError as error:
        print(f"clipin: warning: no compile cache: {error}", file=sys.stderr)


def open_compile_cache() -> str:
    """Turns the cache on for this process, unless the user has chosen otherwise.

    Returns:
      The folder that jax uses, by path or URL; "" if the user turned the cache off.

    Raises:
      ClipinError: the default folder cannot be written.
    """
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"]:
        return ""
    if _FOLDER.upper() in os.environ or settings[_FOLDER]:
        return settings[_FOLDER] or ""
    folder = default_folder()
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds code
        _remove_half_written(folder, _LOCK_SECONDS)
    except OSError as error:
        raise ClipinError(
            f"{folder} cannot be written ({first_line(error)}): name another folder "
            f"with {_FOLDER.upper()}"
        ) from error
    jax.config.update(_FOLDER, str(folder))
    _show_first_failure(folder)
    return str(folder)


def default_folder() -> Path:
    """Returns the folder of caches of this user, by the XDG convention."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):  # the convention ignores relative paths
        caches = os.path.expanduser("~/.cache")
    return Path(caches, "clipin_jax", "compiled")


def cache_bound() -> int | None:
    """Returns the largest size of the cache in bytes; None if there is no bound."""
    bound = jax.config.values[_BOUND]
    return None if bound == _NO_BOUND else bound


def cache_size(folder: Path) -> int:
    """Returns the bytes of the programs in a folder, which need not exist."""
    total = 0
    for program in folder.glob(f"*{_PROGRAM}"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            total += program.stat().st_size
    return total


def _remove_half_written(folder: Path, patience: float, damaged: str = "") -> None:
    """Removes what processes that were killed, or a full disk, left half written.

    jax writes a program, then the time when it was last read, and fails on the one
    without the other.

    Args:
      folder: of the cache.
      patience: seconds to wait for other processes.
      damaged: the name of a program whose file, the one read last, is removed as well.

    Raises:
      OSError: the folder cannot be written, or others keep it locked.
    """
    with FileLock(folder / _LOCK, timeout=patience):
        if jax.config.values[_BOUND] == _NO_BOUND:  # jax writes no times
            return
        names = re.compile(re.escape(damaged) + f"-[0-9a-f]+{_LAST_READ}")
        times = [path for path in folder.iterdir() if names.fullmatch(path.name)]
        if times:
            max(times, key=lambda path: path.stat().st_mtime_ns).unlink()
        for program in folder.glob(f"*{_PROGRAM}"):
            key = program.name.removesuffix(_PROGRAM)
            if not program.with_name(key + _LAST_READ).exists():
                program.unlink()


def _show_first_failure(folder: Path) -> None:
    """Shows the first of jax's warnings about the folder as one line, and no more.

    jax compiles what it cannot read or write, but leaves damaged files where they are.
    """
    show, shown = warnings.showwarning, []

    def show_briefly(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if not (failure := _FAILURE.match(str(message))):
            return show(message, *args, **kwargs)
        action, program, reason = failure.groups()
        if not shown:
            shown.append(action)
            print(
                f"clipin: warning: {action} the compile cache in {folder} failed "
                f"({first_line(reason)}); programs are compiled instead",
                file=sys.stderr,
            )
        damaged = program if action == "reading" else ""
        with contextlib.suppress(OSError):
            _remove_half_written(folder, _REPAIR_SECONDS, damaged)

    warnings.filterwarnings("always", message=_FAILURE.pattern)
    warnings.showwarning = show_briefly
