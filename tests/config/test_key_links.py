"""Keys that follow others do so again after a config was saved."""

import json

import pytest
from ml_collections import ConfigDict

from clipin_jax.config import (
    config_hash,
    followers,
    from_json,
    links,
    list_configs,
    load_config,
    resolve,
    to_json,
    with_defaults,
)
from clipin_jax.errors import ClipinError


@pytest.mark.parametrize("name", sorted(list_configs()))
def test_links_of_every_page_survive_a_run_folder(name, tmp_path):
    config = load_config(f"{name}:runlocal,data=/pairs")
    saved = to_json(with_defaults(config))
    (tmp_path / "config.json").write_text(saved)
    again = load_config(str(tmp_path))
    assert links(again) == links(config) and links(config)
    assert to_json(again) == saved
    changes = [
        "total_steps=77",
        "model.image.image_size=(96, 96)",
        "model.text.context_length=9",
    ]
    longer = load_config(str(tmp_path), changes)
    expected = load_config(f"{name}:runlocal,data=/pairs", changes)
    assert resolve(longer) == resolve(with_defaults(expected))
    assert longer.optim.learning_rate.total_steps == 77
    assert longer.data.image_size == (96, 96) and longer.data.context_length == 9


def test_a_folder_that_several_sources_share_is_still_one(tmp_path):
    config = load_config("clip", ["data.source.folder=/a"])
    again = from_json(to_json(config)).lock()
    assert followers(again, "data.source.folder") == ["evals.retrieval.source.folder"]


@pytest.fixture
def computed():
    """A config with arithmetic on references, in both orders, and a copy."""
    config = load_config("quickstart").unlock()
    steps = config.get_ref("total_steps")
    config.optim.learning_rate.warmup_steps = steps // 10
    config.log_every_steps = 3 + 2 * steps
    config.health_every_steps = config.get_oneway_ref("log_every_steps")
    return config


def test_arithmetic_on_references_survives(computed):
    again = from_json(to_json(computed))
    assert to_json(again) == to_json(computed)
    for config in (computed, again):
        config.total_steps = 50
        assert config.optim.learning_rate.warmup_steps == 5
        assert config.log_every_steps == config.health_every_steps == 103
        config.health_every_steps = 7
        assert config.log_every_steps == 103


def test_followers_are_those_of_followers_too(computed):
    assert followers(computed, "total_steps") == [
        "health_every_steps",
        "log_every_steps",
        "optim.learning_rate.total_steps",
        "optim.learning_rate.warmup_steps",
    ]
    assert followers(computed, "health_every_steps") == []
    assert "total_steps" in followers(computed, "optim.learning_rate.total_steps")


def test_a_function_of_a_reference_is_saved_as_its_value(computed):
    computed.seed = computed.get_ref("total_steps").to_float().to_int()
    assert "seed" not in links(computed)
    assert from_json(to_json(computed)).seed == 600


def test_a_file_without_links_is_read_as_before(tmp_path):
    config = load_config("quickstart")
    tree = json.loads(to_json(config))
    del tree["links"]
    old = from_json(json.dumps(tree))
    assert links(old) == {} and resolve(old) == resolve(config)
    assert config_hash(old) == config_hash(config)


@pytest.mark.parametrize(
    "links, words",
    [
        (["seed = total_steps"], ["seed is 0", "follows total_steps", "same value"]),
        (["seed = (total_steps"], ["'(total_steps'"]),
        (["seed = log_every_steps", "log_every_steps = seed"], ["cycle"]),
    ],
)
def test_links_that_do_not_fit_are_named(tmp_path, links, words):
    tree = json.loads(to_json(load_config("quickstart")))
    (tmp_path / "config.json").write_text(json.dumps(tree | {"links": links}))
    with pytest.raises(ClipinError) as error:
        load_config(str(tmp_path))
    assert all(word in str(error.value) for word in ["config.json", *words])


def test_links_of_keys_that_were_removed_are_left_out(tmp_path):
    config = load_config("clip", ["data.source.folder=/a"])
    tree = json.loads(to_json(config))
    tree["evals"] = {}
    assert from_json(json.dumps(tree)).data.source.folder == "/a"
    del tree["total_steps"]
    again = from_json(json.dumps(tree))
    assert again.optim.learning_rate.total_steps == 20_000
    assert followers(again, "model.image.image_size") == ["data.image_size"]


def test_the_yaml_file_of_a_run_is_a_config(tmp_path):
    config = load_config("quickstart")
    tree = json.loads(to_json(config))
    path = tmp_path / "config.yaml"
    path.write_text(str(ConfigDict(tree)))
    again = load_config(str(path), ["total_steps=70"])
    assert again.optim.learning_rate.total_steps == 70
    assert resolve(load_config(str(path))) == resolve(config)
    path.write_text("a: [1,\nb")
    with pytest.raises(ClipinError, match="config.yaml cannot be read"):
        load_config(str(path))
    path.write_text("- 1")
    with pytest.raises(ClipinError, match="holds no mapping"):
        load_config(str(path))
