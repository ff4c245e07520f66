import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHEEL_BUILDER = "setuptools.command.bdist_wheel"
LEFT_OUT = (".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*")


def python(*args: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if find_spec("setuptools") is None or find_spec(WHEEL_BUILDER) is None:
        pytest.skip("building a wheel offline needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("build")
    clone = folder / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT))
    python(
        *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(folder), str(clone)),
        cwd=folder,
    )
    [built] = folder.glob("clipin_jax-*.whl")
    return built


def test_wheel_holds_configs_and_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "configs").rglob("*.py"):
        assert f"clipin_jax/{path.relative_to(ROOT)}" in names
    for path in filter(Path.is_file, (ROOT / "launch").rglob("*")):
        assert f"clipin_jax/{path.relative_to(ROOT)}" in names
    assert "clipin_jax/data/text/clip_merges.txt.gz" in names
    assert not any(name.startswith(("configs/", "tests/", "bench/")) for name in names)
    assert not any("__pycache__" in name for name in names)
    metadata = zipfile.ZipFile(wheel).read(
        next(name for name in names if name.endswith(".dist-info/METADATA"))
    )
    assert re.search(rb"^License(-Expression)?: Apache-2.0$", metadata, re.MULTILINE)
    assert re.search(rb"^Requires-Python: .*>=3\.11", metadata, re.MULTILINE)
    for extra in ("test", "dev", "tpu", "cuda", "bench"):
        assert f"Provides-Extra: {extra}".encode() in metadata


def test_installed_wheel_finds_configs_by_name(wheel, tmp_path):
    target = tmp_path / "site"
    python(
        *("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)),
        str(wheel),
        cwd=tmp_path,
    )
    lines = python(
        "-c",
        "import clipin_jax.config as c; print(c.__file__, *c.list_configs())\n"
        "for name in c.list_configs(): print(c.find_config(name))\n"
        "from clipin_jax.launchers import Job, make_engine, render\n"
        "job = Job('a', ('clipin', 'doctor'), 'w')\n"
        "print(render(job, make_engine('local'))['job.sh'].split()[-1])\n"
        "print(c.load_config('clip:clipin,variant=S/16,runlocal').name)",
        cwd=tmp_path,
        PYTHONPATH=str(target),
    ).splitlines()
    module, *names = lines[0].split()
    assert Path(module) == target / "clipin_jax" / "config" / "__init__.py"
    assert set(names) == {path.stem for path in (ROOT / "configs").glob("*.py")}
    for name, path in zip(names, lines[1:-2], strict=True):
        assert Path(path) == target / "clipin_jax" / "configs" / f"{name}.py"
    assert lines[-2:] == ["doctor", "clip_clipin"]


def test_pyproject_configures_only_tools():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(tables) == {"build-system", "tool"}
    assert set(tables["tool"]) == {"ruff", "pyright", "pytest"}


def test_make_refuses_another_python(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("no make")
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode != 0
    assert "needs Python 3.11 to 3.13" in done.stdout + done.stderr
