"""Every code block of every page is run, parsed, or marked with the reason why not."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from clipin_jax.config import load_config
from tests.conftest import REPOSITORY
from tests.support import tiny_runs
from tests.support.doc_blocks import SHOWN, Block, blocks_of, check_shell, pages

# Pages whose Python a test of their own runs, on data that fits them.
OWN_TESTS = {
    "README.md": "tests/end_to_end/test_readme.py",
    "docs/guides/extending.md": "tests/end_to_end/test_outside_package.py",
    **{
        f"docs/guides/{path.stem.removeprefix('test_docs_')}.md": str(path)
        for path in (REPOSITORY / "tests/end_to_end").glob("test_docs_*.py")
    },
}
PAGES = {str(page.relative_to(REPOSITORY)): [*blocks_of(page)] for page in pages()}
BLOCKS = [block for blocks in PAGES.values() for block in blocks]
SHELL = [block for block in BLOCKS if block.language == "bash" and not block.mark]
RUN = [
    name
    for name, blocks in PAGES.items()
    if name not in OWN_TESTS and any(b.language == "python" for b in blocks)
]
SLOW = [name for name in RUN if any(b.mark == "slow" for b in PAGES[name])]
SMALL = (
    "total_steps=1", "model.image.depth=1", "model.image.width=16",
    "model.text.depth=1", "model.text.width=16", "model.text.context_length=8",
    "evals={}",
)  # fmt: skip


def test_every_block_has_a_check():
    known = {"bash", "python", "yaml", *SHOWN}
    directives = [block for block in BLOCKS if block.language.startswith("{")]
    unknown = [b for b in BLOCKS if b.language not in known and b not in directives]
    assert not unknown, [f"{block}: ```{block.language}" for block in unknown]
    assert len(SHELL) > 30 and len(BLOCKS) > 90
    for page, test in OWN_TESTS.items():
        if page in PAGES:
            assert Path(page).name in (REPOSITORY / test).read_text(), (page, test)


def test_yaml_is_well_formed():
    for block in BLOCKS:
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.code)), block


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell(block: Block, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    check_shell(block.code)


@pytest.mark.parametrize(
    "code, wrong",
    [
        ("clipin trian clip", SystemExit),
        ("clipin train clip --wrokdir runs/x", SystemExit),
        ("clipin train clip:variannt=B/16", Exception),
        ("clipin train clip optim.learning_rate.peek=1", Exception),
        ("clipin sweep quickstart optim.decay=0,1", AssertionError),
        ("clipin study loseness", AssertionError),
        ("pip install 'clipin_jax[wnadb]'", AssertionError),
        ("python bench/scael.py plan", AssertionError),
        ("python bench/frameworks.py --daat x", AssertionError),
        ("make && sbatch job.sh", AssertionError),
    ],
)
def test_a_wrong_command_is_found(code, wrong, capsys):
    with pytest.raises(wrong):
        check_shell(code)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the run and the picture that pages name."""
    folder = tmp_path_factory.mktemp("pages")
    config = load_config("clip:runlocal", SMALL)
    with tiny_runs.on_one_device():
        tiny_runs.write_run(config, folder / "runs" / "clip", step=1)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def run_page(name: str, marks: tuple[str, ...]) -> None:
    """Runs the Python of a page, block after block, as in a notebook."""
    names = {"config": load_config("clip:runlocal").unlock()}
    for block in PAGES[name]:
        if block.language != "python":
            continue
        if block.mark in marks:
            exec(compile(block.code, str(block), "exec"), names)
            for function in ("get_sweep", "get_study"):
                if made := names.pop(function, None):
                    assert made()["title" if function == "get_study" else "config"]
        else:
            check_imports(block)


def check_imports(block: Block) -> None:
    """Checks that a block compiles, and that what it imports exists."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            missing = [a.name for a in node.names if not hasattr(module, a.name)]
            assert not missing, f"{block}: {node.module} has no {missing}"


@pytest.mark.parametrize("name", RUN)
def test_python(name, place, monkeypatch):
    if name == "docs/start/quickstart.md":  # what test_readme.py runs
        readme = [b.code for b in PAGES["README.md"] if b.language == "python"]
        assert [b.code for b in PAGES[name] if b.language == "python"] == readme
        return
    monkeypatch.chdir(place)
    with tiny_runs.on_one_device():
        run_page(name, ("",))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_slow_python(name, place, monkeypatch):
    monkeypatch.chdir(place)
    with tiny_runs.on_one_device():
        run_page(name, ("", "slow"))
