"""Keys that no code reads, and strings for lists, are refused."""

import pytest
from ml_collections import ConfigDict

from clipin_jax.config import (
    check_keys,
    check_lists,
    check_types,
    list_configs,
    load_config,
)
from clipin_jax.errors import ClipinError


@pytest.mark.parametrize("name", sorted(list_configs()))
@pytest.mark.parametrize("options", ["runlocal", "runlocal,data=/pairs"])
def test_every_page_has_known_keys(name, options):
    config = load_config(f"{name}:{options}")
    check_keys(config)
    check_lists(config)
    check_types(config)


def changed(key: str, value: object) -> ConfigDict:
    config = load_config("quickstart").unlock()
    group, _, name = key.rpartition(".")
    with config.ignore_type():
        (config[group] if group else config)[name] = value
    return config


@pytest.mark.parametrize(
    "key, nearest",
    [
        ("sede", "'seed'"),
        ("data.augment.flipp", "'data.augment.flip'"),
        ("data.shufle_block", "'data.shuffle_block'"),
        ("mesh.fdsp", "'mesh.fsdp'"),
        ("target.decai", "'target.decay'"),
        ("model.projection.texts", "'model.projection.text'"),
        ("model.embed_dims", "'model.embed_dim'"),
        ("model.zzz", "model has"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(key, nearest):
    with pytest.raises(ClipinError) as error:
        check_keys(changed(key, 3))
    assert f"no config key {key!r}" in str(error.value) and nearest in str(error.value)


@pytest.mark.parametrize(
    "key",
    ["sharding.rules", "data.augment.crop_scale", "model.image_mean", "optim.no_decay"]
    + ["model.image.patch_size", "evals.zero_shot_shape.templates"],
)
def test_a_string_for_a_list_is_named(key):
    with pytest.raises(ClipinError, match=f"{key} is the string 'abc': give a list"):
        check_lists(changed(key, "abc"))


@pytest.mark.parametrize(
    "key, value, form",
    [
        ("total_steps", "6", "a whole number"),
        ("batch_size", 8.0, "a whole number"),
        ("seed", None, "a whole number"),
        ("name", 3, "text"),
        ("mesh", None, "a dict"),
        ("data.source", "x", "a dict"),
        ("data.threads", True, "a whole number"),
        ("data.shuffle", "yes", "True or False"),
        ("data.image_size", 32, "a list"),
        ("evals.retrieval", None, "a dict"),
        ("objectives.contrastive", "x", "a dict"),
        ("checkpoint.every_steps", "2", "a whole number"),
        ("model.image_mean", (0.5, "a", 0.5), "a number"),
        ("model.image.width", "32", "a whole number"),
        ("optim.bounds", {"a": 1}, "a list"),
        ("optim.learning_rate.warmup_steps", "3", "a whole number"),
        ("objectives.contrastive.weight", "x" * 999, "a number"),
    ],
)
def test_a_value_of_another_type_is_named(key, value, form):
    with pytest.raises(ClipinError, match=f"^{key} is .*: give {form}") as error:
        check_types(changed(key, value))
    assert len(str(error.value)) < 250


def test_one_group_is_checked_without_the_others():
    strings = {"optim.no_decay": "abc", "data.source.objects": "12"}
    config = load_config("quickstart", changes=strings)
    with pytest.raises(ClipinError, match=r"data\.source\.objects is the string"):
        check_lists(config, "data")


@pytest.mark.parametrize(
    "override, hint",
    [
        ("optim.lr", "'optim.learning_rate'"),
        ("lr", "'optim.learning_rate'"),
        ("optim.wd", "'optim.weight_decay'"),
        ("bs", "'batch_size'"),
        ("model.image_size", "'model.image.image_size'"),
        ("optm.learning_rate", "'optim.learning_rate'"),
        ("optim.lx", "optim has b1, b2"),
        ("TOTAL_STEPS", "'total_steps'"),
        ("optim.warmup", "'optim.learning_rate.warmup_steps'"),
        ("data.augment.crop", "'data.augment.crop_"),
        ("objectives.contrastiv.weight", "'objectives.contrastive.weight'"),
        ("precision", "the config has batch_size"),
        ("num_workers", "the config has batch_size"),
        ("data.xy", "data has allow_change"),
    ],
)
def test_hints_name_a_key_of_the_same_kind(override, hint):
    with pytest.raises(ClipinError) as error:
        load_config("quickstart", [f"{override}=1"])
    assert f"no config key {override!r}" in str(error.value)
    assert hint in str(error.value), str(error.value)


def test_a_path_is_a_config_and_a_string_is_no_list_of_overrides(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "from clipin_jax.config import load_config\n\n"
        "def get_config(arg):\n    return load_config('quickstart').unlock()\n"
    )
    assert load_config(page) == load_config(str(page))
    for wrong in ("total_steps=3", {"total_steps": 3}, 3, ["total_steps=3", 3]):
        with pytest.raises(ClipinError, match="overrides is .*: give a list"):
            load_config(page, wrong)
    for wrong in ("total_steps=3", ["total_steps=3"], {3: 1}):
        with pytest.raises(ClipinError, match="changes is .*: give a dict"):
            load_config(page, changes=wrong)
    with pytest.raises(ClipinError, match="no config 'xxx") as error:
        load_config("x" * 999)
    assert len(str(error.value)) < 400
