"""The compile cache: where it is, what it survives, and that it never stops a run."""

import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from clipin_jax.commands import main as cli
from clipin_jax.errors import ClipinError
from clipin_jax.runs import compile_cache
from clipin_jax.runs.compile_cache import (
    cache_bound,
    cache_size,
    default_folder,
    open_compile_cache,
    use_compile_cache,
)

LONGEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
NAMES = ("JAX_COMPILATION_CACHE_DIR", *map(str.upper, compile_cache._SETTINGS))


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A user without settings, whose caches are in an empty folder."""
    before = {name.lower(): jax.config.values[name.lower()] for name in NAMES}
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(LONGEST, "0")  # the programs of these tests are small
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update(LONGEST.lower(), 0)
    compilation_cache.reset_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield tmp_path / "caches"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def events():
    """The names of what jax reports of its cache."""
    seen: list[str] = []

    def listen(event: str, **_: object) -> None:
        seen.append(event.rpartition("/")[2])

    jax.monitoring.register_event_listener(listen)
    yield seen
    jax.monitoring.unregister_event_listener(listen)


def run_again(factor: int = 3) -> float:
    """Runs a program, as a process would that has just started."""
    jax.clear_caches()
    return float(jax.jit(lambda x: factor * x)(jnp.float32(2)))


def programs(folder: Path) -> list[Path]:
    return sorted(folder.glob("jit__lambda*-cache"))


def test_a_second_start_reads_what_the_first_has_compiled(caches, events):
    use_compile_cache()
    assert run_again() == 6 and "cache_hits" not in events
    [program] = programs(default_folder())
    assert default_folder() == caches / "clipin_jax" / "compiled"
    assert default_folder().stat().st_mode & 0o777 == 0o700
    assert cache_size(default_folder()) >= program.stat().st_size
    events.clear()
    use_compile_cache()
    assert run_again() == 6
    assert "cache_hits" in events and "cache_misses" not in events


def test_a_folder_that_has_moved_keeps_its_programs(caches, events, monkeypatch):
    use_compile_cache()
    run_again()
    caches.rename(moved := caches.with_name("moved"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(moved))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    events.clear()
    use_compile_cache()
    run_again()
    assert "cache_hits" in events and "cache_misses" not in events


def test_the_user_chooses_folder_bound_or_nothing(caches, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path.home() / ".cache" / "clipin_jax" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert open_compile_cache() == ""
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/folder")  # as jax does
    assert open_compile_cache() == "gs://bucket/folder" and cache_bound() is None
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert open_compile_cache() == "gs://bucket/folder"
    jax.config.update("jax_enable_compilation_cache", False)
    assert open_compile_cache() == ""
    jax.config.update("jax_enable_compilation_cache", True)
    assert not caches.exists()
    jax.config.update("jax_compilation_cache_dir", None)
    assert open_compile_cache() == str(default_folder())
    assert cache_bound() == 5 * 2**30


def test_the_bound_holds(caches, monkeypatch):
    use_compile_cache()
    run_again(1)
    size = cache_size(default_folder())
    bound = 2 * size + size // 2
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", str(bound))
    jax.config.update("jax_compilation_cache_max_size", bound)
    compilation_cache.reset_cache()
    use_compile_cache()
    for factor in range(2, 6):
        run_again(factor)
    assert size < cache_size(default_folder()) <= bound


def test_a_folder_that_cannot_be_written_is_one_line(caches, capsys):
    caches.write_text("a file, where a folder should be")
    with pytest.raises(ClipinError, match="compiled cannot be written .*DIR$"):
        open_compile_cache()
    use_compile_cache()
    assert run_again() == 6
    error = capsys.readouterr().err
    assert error.startswith("clipin: warning: no compile cache: ")
    assert error.count("\n") == 1
    assert cli.main(["doctor"]) == 0
    assert "off: /" in capsys.readouterr().out


def test_damaged_programs_are_one_line_and_written_anew(caches, capsys, events):
    use_compile_cache()
    run_again()
    run_again(7)
    for path in default_folder().glob("*-cache"):
        path.write_bytes(path.read_bytes()[:-9])
    compilation_cache.reset_cache()
    assert run_again() == 6 and run_again(7) == 14
    error = capsys.readouterr().err
    assert error.startswith("clipin: warning: reading the compile cache in /")
    assert error.count("\n") == 1
    events.clear()
    assert run_again() == 6 and run_again(7) == 14
    assert "cache_hits" in events and "cache_misses" not in events
    assert not capsys.readouterr().err


def test_what_a_killed_process_left_is_removed(caches):
    use_compile_cache()
    run_again()
    [program] = programs(default_folder())
    half = program.with_name("jit_step-0123-cache")
    half.write_bytes(program.read_bytes()[:100])
    use_compile_cache()
    assert half.exists()  # it is turned on already
    jax.config.update("jax_compilation_cache_dir", None)
    use_compile_cache()
    assert not half.exists() and program.exists()


def test_a_full_disk_is_one_line(caches, capsys):
    use_compile_cache()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        results = run_again(), run_again(7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert results == (6, 14) and not programs(default_folder())
    error = capsys.readouterr().err
    assert error.startswith("clipin: warning: writing the compile cache in /")
    assert error.count("\n") == 1
    run_again()
    assert programs(default_folder())


def test_other_warnings_are_shown_as_ever(caches, recwarn):
    use_compile_cache()
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)


def test_an_import_changes_nothing(tmp_path):
    code = (
        "import jax, clipin_jax.runs.compile_cache\n"
        "assert jax.config.values['jax_compilation_cache_dir'] is None\n"
        "assert jax.config.values['jax_compilation_cache_max_size'] == -1"
    )
    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_the_doctor_names_folder_size_and_bound(caches, capsys):
    use_compile_cache()
    run_again()
    assert cli.main(["doctor"]) == 0
    [line] = [x for x in capsys.readouterr().out.splitlines() if "compile cache" in x]
    assert str(default_folder()) in line and line.endswith(" MiB, at most 5.0 GiB")
