"""Every key of a config with values of other types: a change, or one line of error."""

import pytest

from clipin_jax.config import load_config
from clipin_jax.config.key_listing import explain_config
from clipin_jax.errors import ClipinError

PAGES = ("clip:clipin,runlocal", "albef:clipin,runlocal", "coca:runlocal")
VALUES = (
    "", "x", "None", "True", "-1", "0", "3", "1.5", "1e400", "nan", "()", "(1,)",
    "('a', 2)", "[", "{", "{}", "{'a': 1}", "{1: 2}", "'", "\\", "=", "a=b",
    "lambda: 0", "__import__('os')", "1_000", "0x10", "9" * 5000, "(" * 300,
    "e\u0301\0",
)  # fmt: skip


@pytest.fixture(scope="module")
def new_keys():
    """The keys of each page that no page before it has."""
    keys = {page: list(explain_config(page)) for page in PAGES}
    assert all(len(names) > 100 for names in keys.values())
    tried: set[str] = set()
    for page, names in keys.items():
        keys[page] = [name for name in names if name not in tried]
        tried.update(names)
    return keys


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("page", PAGES)
def test_another_value_is_a_change_or_one_line(page, new_keys, share):
    config = load_config(page)
    keys = new_keys[page][::share]
    assert keys
    refused = 0
    for key in keys:
        for value in VALUES:
            try:
                changed = load_config(page, [f"{key}={value}"])
            except ClipinError as error:
                text = str(error)
                assert key.split(".")[0] in text, (key, value, text)
                assert "\n" not in text and len(text) < 600, (key, value, text)
                refused += 1
            else:
                assert changed is not config
    assert refused > len(keys) * len(VALUES) / 4


@pytest.mark.parametrize(
    "text", ["", "=", "=3", ".", ".=1", "a..b=1", "\0=1", "--", "-"]
)
def test_a_key_that_is_none_is_one_line(text):
    with pytest.raises(ClipinError) as error:
        load_config(PAGES[0], [text])
    assert "\n" not in str(error.value)
