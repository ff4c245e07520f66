"""The architecture as a program reads it: who imports whom, and how long files are."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import clipin_jax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clipin_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Rooms from the ground up: a module imports from its own floor or from below.
FLOORS = [
    ["errors", "registry", "storage", "types"],
    ["processes"],
    ["config"],
    ["models"],
    ["objectives"],
    ["core"],
    ["data"],
    ["interop"],
    ["runs"],
    ["inference"],
    ["evaluators"],
    ["report"],
    ["training", "plan", "embeddings", "launchers"],
    ["datatools", "sweep"],
    ["study"],
    ["notebook"],
    ["commands", "__init__"],
    ["__main__"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Libraries that only these rooms may import.
ONLY_IN = {
    "flax": {"models", "objectives", "core"},
    "orbax": {"runs"},
    "grain": {"data"},
    "tensorflow_datasets": {"data"},
    "tokenizers": {"data"},
    "cv2": {"data", "report"},
    "PIL": {"data", "datatools", "report", "commands"},
    "tensorboardX": {"runs"},
    "sentencepiece": {"data"},
    "array_record": {"data", "datatools"},
    "safetensors": {"interop"},
    "huggingface_hub": {"interop"},
    "IPython": {"notebook"},
}
# All libraries that a room may import, besides the standard one.
ALLOWED = {
    "errors": set(),
    "registry": set(),
    "config": {"ml_collections", "yaml"},  # ml_collections needs yaml itself
    "types": {"jax", "numpy"},
    "models": {"jax", "flax", "numpy"},
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted names that a file imports, at its top and in its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(path: Path) -> set[str]:
    """Returns the rooms that a file imports from."""
    names = {name for name in imports(path) if name.startswith("clipin_jax.")}
    return {name.split(".")[1] for name in names} & set(FLOOR)


def imported_libraries(path: Path) -> set[str]:
    """Returns the libraries that a file imports, without the standard one."""
    names = {name.partition(".")[0] for name in imports(path)}
    return names - set(sys.stdlib_module_names) - {"clipin_jax"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path):
    assert room(path) in FLOOR, f"give {room(path)} a floor in this test"
    upward = [
        other for other in imported_rooms(path) if FLOOR[other] > FLOOR[room(path)]
    ]
    assert not upward, f"{room(path)} must not import {upward}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_are_imported_only_in_their_packages(path):
    libraries = imported_libraries(path)
    elsewhere = {x for x, rooms in ONLY_IN.items() if room(path) not in rooms}
    assert not libraries & elsewhere
    assert libraries <= ALLOWED.get(room(path), libraries)
    assert not libraries & {"tensorflow", "torch"}


def test_data_does_not_import_jax():
    for path in (PACKAGE / "data").rglob("*.py"):
        assert "jax" not in imported_libraries(path), path
        assert imported_rooms(path) <= {"data", "errors", "registry", "storage"}, path


def test_data_tools_do_not_import_models():
    rooms = {"config", "data", "datatools", "errors", "report", "storage"}
    for path in (PACKAGE / "datatools").rglob("*.py"):
        assert not imported_libraries(path) & {"jax", "grain", "cv2"}, path
        assert imported_rooms(path) <= rooms, path


def test_there_are_no_circular_imports():
    """Neither inside of functions nor under `TYPE_CHECKING`."""
    graph = {dotted_name(path): imported_modules(path) for path in SOURCES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def dotted_name(path: Path) -> str:
    """Returns the dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    """Returns the modules of the package that a file imports."""
    known = {dotted_name(source) for source in SOURCES}
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & known
            # `from room import name`: the room itself where the name is no module.
            names |= {str(node.module)} if inside - known else set()
    return names & known


def test_packages_have_few_files_and_a_docstring():
    rooms = [PACKAGE, *(p.parent for p in PACKAGE.rglob("__init__.py"))]
    for folder in set(rooms):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), (
            folder
        )
        # Commands are one file for each verb.
        most = {PACKAGE: 6, PACKAGE / "commands": 20}.get(folder, 16)
        assert len(list(folder.glob("*.py"))) <= most, folder


def test_objectives_import_layers_but_no_tower():
    for path in (PACKAGE / "objectives").rglob("*.py"):
        models = {x for x in imports(path) if x.startswith("clipin_jax.models")}
        known = ("layers", "base", "remat")
        modules = tuple(f"clipin_jax.models.{name}" for name in known)
        assert all(x.startswith(modules) for x in models), path


def test_configs_import_only_the_config_package():
    for path in (ROOT / "configs").glob("*.py"):
        assert imported_libraries(path) <= {"ml_collections"}, path
        assert imported_rooms(path) <= {"config"}, path


def test_no_framework_is_a_special_case():
    """A framework is a config: no condition in the package knows one by name."""
    names = {path.stem for path in (ROOT / "configs").glob("*.py")}
    names |= {"clip", "clipin", "siglip", "nclip", "xclip", "albef", "blip", "coca"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            for condition in conditions(node):
                words = {
                    word
                    for part in ast.walk(condition)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    for word in re.findall(r"\w+", part.value.lower())
                }
                assert not words & names, f"{path}, line {condition.lineno}"


def conditions(node: ast.AST) -> Sequence[ast.expr | ast.pattern]:
    """Returns the conditions of a statement or expression."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    if isinstance(node, ast.Match):
        return [case.pattern for case in node.cases]
    return [node] if isinstance(node, ast.Compare) else []


def test_files_are_short():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*SOURCES, *(ROOT / "configs").glob("*.py")]
        if (lines := len(path.read_text().splitlines())) > 350
    }
    assert not long


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_is_imported_quickly():
    seconds, modules = run_python(
        "import sys, time; start = time.perf_counter(); import clipin_jax\n"
        "print(time.perf_counter() - start, end=' ')\n"
        "heavy = 'tensorflow torch cv2 jax flax grain orbax PIL'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    ).split(maxsplit=1)
    assert float(seconds) < 2
    assert modules == "[]"


def test_nothing_needs_tensorflow_or_torch():
    names = [dotted_name(path) for path in SOURCES]
    run_python(
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('tensorflow', 'torch'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for name in {names}: importlib.import_module(name)"
    )


def test_no_module_shadows_a_public_name():
    """`import clipin_jax.NAME` would set the attribute of that name to the module."""
    names = {path.stem for path in PACKAGE.iterdir() if path.name != "__init__.py"}
    assert not names & set(clipin_jax.__all__)
    for path in SOURCES:
        importlib.import_module(dotted_name(path))
    for name in clipin_jax.__all__:
        public = getattr(clipin_jax, name)
        assert callable(public) and public.__name__ == name
    assert set(clipin_jax.__all__) <= set(dir(clipin_jax))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        clipin_jax.trian  # noqa: B018


ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("name", ROOMS)
def test_no_module_of_a_room_has_the_name_of_what_the_room_offers(name):
    """`import clipin_jax.ROOM.NAME` would set that name to the module."""
    package = importlib.import_module(f"clipin_jax.{name}")
    for path in (PACKAGE / name).glob("[!_]*.py"):
        module = importlib.import_module(f"clipin_jax.{name}.{path.stem}")
        assert getattr(package, path.stem) is module


def test_public_names_are_the_same_in_any_order():
    run_python(
        "import clipin_jax.training.evaluate, clipin_jax.report, clipin_jax.config\n"
        "from clipin_jax import *\n"
        "from clipin_jax import train as first\n"
        "import clipin_jax, clipin_jax.training.loop\n"
        "for _ in range(2):\n"
        "    assert clipin_jax.train is first is train\n"
        "    assert clipin_jax.evaluate is evaluate\n"
        "    assert clipin_jax.write_report is write_report\n"
        "    assert all(callable(globals()[name]) for name in clipin_jax.__all__)"
    )
