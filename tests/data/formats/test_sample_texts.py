"""Captions and labels in the texts of a sample."""

import pytest

from clipin_jax.data.formats.sample_texts import SampleTexts, text_parts
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError


def sample_and_part(name, content):
    """A sample whose file has this content, and the part of that name."""
    part = text_parts("captions", name)[0]
    content = content.encode() if isinstance(content, str) else content
    return SampleTexts({part.extension: content}), part


@pytest.mark.parametrize(
    "name, content, captions",
    [
        ("txt", " gr\u00fcn \n", ["gr\u00fcn"]),
        ("TXT", "\ufefftext", ["text"]),
        ("txt", " \n", []),
        ("txt", None, []),
        ("json:caption", '{"caption": "text"}', ["text"]),
        ("json:caption", '\ufeff{"caption": ["", "one", " two "]}', ["one", "two"]),
        ("meta.json:a.b", '{"a": {"b": "text"}}', ["text"]),
        ("json:caption", '{"caption": ""}', []),
        ("json:caption", '{"caption": []}', []),
        ("json:caption", '{"caption": null}', []),
        ("json:caption", '{"other": "text"}', []),
        ("json:caption", '["caption"]', []),
        ("json:caption", "7", []),
        ("json:a.b", '{"a": "b"}', []),
        ("json:caption", None, []),
    ],
)
def test_captions(name, content, captions):
    texts, part = sample_and_part(name, content)
    assert texts.captions(part) == captions


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("txt", b"\xff", "txt: not UTF-8"),
        ("json:caption", '{"caption": 7}', "json:caption: neither text nor a list"),
        ("json:caption", '{"caption": {"en": "text"}}', "neither text nor a list"),
        (
            "json:caption",
            '{"caption": ["text", 7]}',
            "neither text nor a list of texts",
        ),
        ("json:caption", '{"caption": "\\ud800"}', "json:caption: no valid Unicode"),
        ("json:caption", '{"caption": "te', "json: no valid JSON"),
        ("json:caption", "", "json: no valid JSON"),
        ("json:caption", "[" * 100000, "json: no valid JSON"),
        ("json:caption", "1" * 5000, "json: no valid JSON"),
        ("json:caption", b"\xff{}", "json: not UTF-8"),
    ],
)
def test_bad_captions(name, content, reason):
    texts, part = sample_and_part(name, content)
    with pytest.raises(BadRecord, match=reason):
        texts.captions(part)


@pytest.mark.parametrize(
    "name, content, label",
    [
        ("cls", " 1\n", 1),
        ("cls", b"0", 0),
        ("json:a.b", '{"a": {"b": 1}}', 1),
        ("json:a", '{"a": "1"}', 1),
    ],
)
@pytest.mark.parametrize("classes", [0, 2])
def test_labels(name, content, label, classes):
    texts, part = sample_and_part(name, content)
    assert texts.label(part, classes) == label


@pytest.mark.parametrize(
    "name, content, classes, reason",
    [
        ("json:a", '{"a": 1.0}', 2, "json:a: 1.0 is no index of 2 classes"),
        ("json:a", '{"a": true}', 2, "json:a: True is no index"),
        ("json:a", '{"a": [1]}', 2, "json:a: list is no index"),
        ("json:a", '{"b": 1}', 2, "no label"),
        ("json:a", "{", 2, "json: no valid JSON"),
        ("cls", None, 2, "no label"),
        ("cls", "2", 2, "cls: 2 is no index of 2 classes"),
        ("cls", "-1", 0, "cls: '-1' is no index"),
        ("cls", "cat", 2, "cls: 'cat' is no index"),
        ("cls", "9" * 31, 0, "cls: 9"),
        ("cls", "9" * 5000, 0, "cls: '9"),
        ("cls", b"\xff", 2, "cls: not UTF-8"),
    ],
)
def test_bad_labels(name, content, classes, reason):
    texts, part = sample_and_part(name, content)
    with pytest.raises(BadRecord, match=reason) as caught:
        texts.label(part, classes)
    assert len(str(caught.value)) < 80


@pytest.mark.parametrize("name", ["", ":caption", "json:", "json:a..b", (), ("a", "a")])
def test_invalid_parts(name):
    with pytest.raises(ClipinError, match="captions (has|is)"):
        text_parts("captions", name)
