"""Every example of docs/guides/many_machines.md is run."""

import os
import re
import shlex
import subprocess
import sys
import types

import pytest
import yaml

from clipin_jax.commands.main import main, parse
from clipin_jax.data import make_source
from clipin_jax.errors import DONE
from clipin_jax.inference import model as model_module
from clipin_jax.parts.run import check_place
from tests.conftest import REPOSITORY
from tests.support.pair_folders import pair_folder
from tests.support.pixel_model import pixel_model

PAGE = (REPOSITORY / "docs" / "guides" / "many_machines.md").read_text("utf-8")
COUNT = 9
PER_FILE = ["--records-per-file", "2"]  # 10,000 would put all of them in one


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


PARTS, ARRAY, DASK = blocks("bash")
[JOB], [BEAM] = blocks("yaml"), blocks("python")


def commands(shell):
    lines = shell.replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line[:6] == "clipin"
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data/coco, in which the test runs."""
    pair_folder(tmp_path / "data" / "coco", [[f"caption {n}"] for n in range(COUNT)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_module, "load", lambda *_, **__: pixel_model(4))
    return tmp_path


def run(words, capsys):
    if "convert" in words:
        words = [*words, *PER_FILE]
    if "data" in words[:1]:
        words = [*words, "batch_size=4", "evals={}"]
    assert main(words) == DONE, capsys.readouterr().err


def assert_converted(folder, name="shards"):
    source = make_source(name="array_record", files=str(folder / name))
    captions = [source.annotations(n)["captions"] for n in range(len(source))]
    assert captions == [(f"caption {n}",) for n in range(COUNT)]
    assert not (folder / name / ".parts").exists()


def test_parts_on_one_machine(folder, capsys):
    for words in commands(PARTS):
        run(words, capsys)
    assert_converted(folder)
    assert (folder / "check.html").read_text().startswith("<!doctype html>")
    assert (folder / "coco.parquet").is_file()


def test_a_slurm_array(folder, capsys, monkeypatch):
    [words] = commands(ARRAY)
    [(least, most)] = re.findall(r"#SBATCH --array=(\d+)-(\d+)$", ARRAY, re.MULTILINE)
    count = int(most) - int(least) + 1
    shell = dict(MIN=least, MAX=most, COUNT=str(count), STEP="1")
    for name, value in shell.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    for task in range(int(least), int(most) + 1):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        run(words, capsys)
    # A task of another array would be another part.
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", most)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", str(int(most) + 1))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", most)
    assert main([*words, *PER_FILE]) == 78
    assert f"was begun in {count} parts, not 2" in capsys.readouterr().err
    for number, part in ((3, "4/16"), (7, "8/16")):  # as the text says
        assert f"--part {part}" in " ".join(PAGE.split()) and number < count == 16
    run([*words[:-2], "--merge"], capsys)
    assert_converted(folder)


def test_the_script_of_the_array_is_a_shell_script(tmp_path):
    script = tmp_path / "convert.sh"
    script.write_text(ARRAY)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_an_indexed_job(folder, capsys, monkeypatch):
    job = yaml.safe_load(JOB)
    spec = job["spec"]
    [container] = spec["template"]["spec"]["containers"]
    count = spec["completions"]
    assert spec["completionMode"] == "Indexed"
    assert container["env"] == [{"name": "JOB_COMPLETIONS", "value": str(count)}]
    program, *words = container["command"]
    assert program == "clipin"
    words = [word.replace("/data/", f"{folder}/data/") for word in words]
    monkeypatch.setenv("JOB_COMPLETIONS", container["env"][0]["value"])
    for pod in range(count):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(pod))
        run(words, capsys)
    run([*words[:-2], "--merge"], capsys)
    assert_converted(folder / "data")


def test_the_job_is_one_of_kubernetes():
    validate = pytest.importorskip("kubernetes_validate").validate
    validate(yaml.safe_load(JOB), "1.33", strict=True)


def test_dask(folder, capsys):
    local, *others = commands(DASK)
    for words in others:
        check_place(parse(words).on)
    run(local, capsys)
    assert_converted(folder)


class Stage:
    """Does what Beam does with a collection in memory, in another order."""

    def __init__(self, items=(), function=None):
        self.items, self.function = list(items), function

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __or__(self, other):
        if other.function:
            return Stage(map(other.function, reversed(self.items)))
        return Stage(self.items or other.items)


def test_beam(folder, capsys, monkeypatch):
    beam = types.ModuleType("apache_beam")
    beam.Pipeline = beam.Reshuffle = Stage
    beam.Create = lambda items: Stage(items)
    beam.Map = lambda function: Stage(function=function)
    monkeypatch.setitem(sys.modules, "apache_beam", beam)
    exec(BEAM, {})
    assert main(["data", "convert", "clip:data=data/coco", "shards", "--merge"]) == DONE
    assert_converted(folder)


@pytest.mark.slow
def test_beam_itself(folder, capsys):
    """Beam has pins of its own: it needs an environment of its own."""
    python = folder / "beam" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "beam")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    installed = subprocess.run(
        [*install, str(REPOSITORY), "apache-beam>=2.60,<3"],
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"apache-beam cannot be installed: {installed.stderr[-300:]}")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    script = folder / "pipeline.py"
    script.write_text(BEAM)
    done = subprocess.run(
        [str(python), str(script)], cwd=folder, env=environment,
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert main(["data", "convert", "clip:data=data/coco", "shards", "--merge"]) == DONE
    assert_converted(folder)
