import dataclasses
import tomllib

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.launchers import ENGINES, make_engine


def test_the_site_file_of_the_repository_lists_every_setting(repository):
    tables = tomllib.loads((repository / "launch/site.toml").read_text())
    assert list(tables) == list(ENGINES)
    for name, kind in ENGINES.items():
        fields = {f.name: f.default for f in dataclasses.fields(kind)}
        assert tables[name] == fields and list(tables[name]) == list(fields)


def test_every_setting_is_described():
    for kind in ENGINES.values():
        text = str(kind.__doc__).partition("Attributes:")[2]
        described = {
            name.strip()
            for line in text.splitlines()
            if ":" in line
            for name in line.partition(":")[0].split(",")
        }
        assert {f.name for f in dataclasses.fields(kind)} <= described


def test_settings_come_from_the_nearest_file_then_from_changes(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    (home / "clipin_jax").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    assert make_engine("slurm").account == ""
    (home / "clipin_jax/site.toml").write_text('[slurm]\naccount="a"\nnodes=3\n')
    engine = make_engine("slurm", changes=["nodes=2", "partition=gpu=x"])
    assert (engine.account, engine.nodes, engine.partition) == ("a", 2, "gpu=x")
    (here / "site.toml").write_text("[jobset]\nspot=true\n")
    assert make_engine("slurm").account == "" and make_engine("jobset").spot
    assert not make_engine("jobset", changes=["spot=false"]).spot


@pytest.mark.parametrize(
    "engine, site, changes, words",
    [
        ("slrum", "", [], "--on is 'slrum': did you mean 'slurm'?"),
        ("slurm", "", ["acount=a"], "slurm has no setting 'acount': did you mean"),
        ("slurm", "", ["nodes"], "cannot read 'nodes': give KEY=VALUE"),
        ("slurm", "", ["nodes=two"], "slurm.nodes is 'two': give a number"),
        ("slurm", "", ["nodes=-1"], "slurm.nodes is -1: give a number of at least 0"),
        ("jobset", "", ["spot=yes"], "jobset.spot is 'yes'"),
        ("slurm", "", ["account=a\n#SBATCH x"], "slurm.account has several lines"),
        ("slurm", "[slrum]", [], "slrum is no table of an engine: did you mean"),
        ("slurm", "[slurm]\nnode=1", [], "site.toml: slurm has no setting 'node'"),
        ("slurm", "[slurm]\nnodes='1'", [], "slurm.nodes is '1': give a value like 1"),
        ("slurm", "[slurm]\nnodes=true", [], "slurm.nodes is True: give a value like"),
        ("slurm", "slurm = 1", [], "slurm is no table of an engine"),
        ("slurm", "[slurm", [], "is no TOML file"),
    ],
)
def test_wrong_settings(tmp_path, engine, site, changes, words):
    path = tmp_path / "site.toml"
    path.write_text(site)
    with pytest.raises(ClipinError) as error:
        make_engine(engine, str(path), changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_site_file_that_is_named_must_exist(tmp_path):
    with pytest.raises(ClipinError, match="cannot read .*nowhere.toml: No such file"):
        make_engine("slurm", str(tmp_path / "nowhere.toml"))
