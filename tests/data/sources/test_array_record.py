"""ArrayRecord files of tf.train.Example, and their encoding."""

import concurrent.futures
import json
import pickle
import struct

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipin_jax.data import make_source
from clipin_jax.data.formats.example_proto import encode_example, parse_example
from clipin_jax.data.source import BadRecord
from clipin_jax.errors import ClipinError

int64 = st.integers(-(1 << 63), (1 << 63) - 1)
values = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=20),
    int64,
    st.lists(int64, max_size=4),
    st.lists(st.text(max_size=9), min_size=1, max_size=4),
)
examples = st.dictionaries(st.text(max_size=5), values, max_size=4)


def write(path, records, options="group_size:1"):
    writer = ArrayRecordWriter(str(path), options)
    for record in records:
        data = record if isinstance(record, bytes) else encode_example(record)
        writer.write(data)
    writer.close()
    return str(path)


def record(number, **other):
    return {
        "image": b"image %d" % number,
        "captions": [f" first {number} ", "", "café"],
        "kinds": ["human", "none", "made"],
        "label": number % 3,
    } | other


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a-0.array_record", map(record, range(7)))
    write(tmp_path / "a-1.array_record", map(record, range(7, 12)))
    return tmp_path


def open_files(folder, pattern="*.array_record", **cfg):
    return make_source(name="array_record", files=str(folder / pattern), **cfg)


def open_records(folder, *records, **cfg):
    """A source of a good record, followed by these."""
    write(folder / "x.array_record", [record(0), *records])
    return open_files(folder, "x.array_record", **cfg)


def reason(source, index):
    with pytest.raises(BadRecord) as error:
        source[index]
    return str(error.value)


def test_records(folder):
    source = open_files(folder, "a-{0..1}.array_record")
    assert len(source) == 12 and source.classes == ()
    for n in range(12):
        captions = f"first {n}", "café"
        assert source[n] == {"image": b"image %d" % n, "captions": captions}
        assert source.annotations(n) == {"captions": captions}
    assert source.describe(8) == f"record 1 of {folder / 'a-1.array_record'}"
    for index in (-1, 12):
        with pytest.raises(IndexError):
            source[index]


def test_kinds_and_labels(folder):
    source = open_files(folder, kinds="kinds", label="label", classes=("a", "b", "c"))
    assert source.classes == ("a", "b", "c")
    assert source.annotations(8) == {
        "captions": ("first 8", "café"),
        "kinds": ("human", "made"),
        "label": 2,
    }
    several = open_files(folder, captions=("captions", "kinds"))
    assert several.annotations(0)["kinds"] == ("captions",) * 2 + ("kinds",) * 3
    with pytest.raises(ClipinError, match="array_record.kinds needs a single feature"):
        open_files(folder, captions=("captions", "kinds"), kinds="kinds")


def test_a_list_of_one_label_stays_a_list(tmp_path):
    labels = [[2], [], [0, 1], 1, "b", ["a", "b"]]
    source = open_records(
        tmp_path,
        *(record(n, label=label) for n, label in enumerate(labels)),
        label="label",
        classes=("a", "b", "c"),
    )
    actual = [source[n + 1]["label"] for n in range(6)]
    assert actual == [[2], [], [0, 1], 1, 1, [0, 1]]


def test_classes_of_the_manifest(folder):
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"format": "clipin_jax 1", "classes": ["x", "y"]}))
    assert open_files(folder).classes == ()
    source = open_files(folder, label="label")
    assert source.classes == ("x", "y") and source[1]["label"] == 1
    assert reason(source, 2) == "label 2 is none of 2 classes"
    assert open_files(folder, label="label", classes=("z",)).classes == ("z",)
    for wrong, message in (("{", "not valid JSON"), ('{"classes": 1}', "no list")):
        manifest.write_text(wrong)
        with pytest.raises(ClipinError, match=message):
            open_files(folder, label="label")


def test_bad_records_keep_their_index(tmp_path):
    good = encode_example(record(0))
    bad = {
        "no caption": [record(0, captions=" "), {"image": b""}],
        "captions: neither text": [record(0, captions=3)],
        "captions: not UTF-8": [record(0, captions=b"\xff")],
        "no single image": [record(0, image=[b"", b""]), record(0, image=3)],
        "no label": [{"image": b"", "captions": "a"}],
        "no index": [record(0, label="dog"), record(0, label=-1)],
        "truncated": [good[:-1], good[:20]],
        "damaged example": [b"\xff" * 30],
        "kinds: not a kind": [record(0, kinds=["human"]), record(0, kinds=3)],
    }
    records = [each for group in bad.values() for each in group]
    source = open_records(tmp_path, *records, kinds="kinds", label="label")
    reasons = [reason(source, n + 1) for n in range(len(records))]
    expected = [text for text, group in bad.items() for _ in group]
    for reason_, text in zip(reasons, expected, strict=True):
        assert text in reason_


def test_damaged_and_cut_files(folder):
    path = folder / "a-0.array_record"
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[300:500] = b"\xff" * 200
    (folder / "d.array_record").write_bytes(damaged)
    source, bad = open_files(folder, "d.array_record"), 0
    for index in range(7):
        try:
            assert source[index]["image"] == b"image %d" % index
        except BadRecord:
            bad += 1
    assert 0 < bad < 7
    wrong = {
        "half": content[: len(content) // 2],
        "cut": content[:-100],
        "empty": b"",
        "text": b"text\n" * 30000,
    }
    for name, data in wrong.items():
        (folder / name).write_bytes(data)
        with pytest.raises(ClipinError, match=f"{name} is no ArrayRecord file, is cut"):
            open_files(folder, name)
    write(folder / "none", [])
    with pytest.raises(ClipinError, match="no records"):
        open_files(folder, "none")
    write(folder / "other", [b"\xff" * 9] * 3)
    with pytest.raises(ClipinError, match="no tf.train.Example: damaged"):
        open_files(folder, "other")


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(captions="caption"), "'caption' \\(did you mean 'captions'\\?\\)"),
        (dict(image="img"), "no column 'img'"),
        (dict(label="class"), "no column 'class'"),
        (dict(kinds="kind"), "did you mean 'kinds'"),
        (dict(classes=("a",)), "array_record.label none"),
        (dict(files="/none/a"), "no file /none/a"),
        (dict(files=()), "must name files"),
        (dict(file="a"), "did you mean 'files'"),
    ],
)
def test_wrong_arguments(folder, wrong, message):
    files = str(folder / "*.array_record")
    with pytest.raises(ClipinError, match=message):
        make_source(**{"name": "array_record", "files": files} | wrong)


def test_remote_files_are_refused(tmp_path):
    import fsspec

    url = f"memory://{tmp_path.name}/a"
    with fsspec.open(url, "wb") as file:
        file.write(b"0" * 100)
    with pytest.raises(ClipinError, match="read from a local disk.*copy them"):
        make_source(name="array_record", files=url)


def test_a_warning_of_large_groups(tmp_path, caplog):
    path = tmp_path / "g.array_record"
    write(path, map(record, range(9)), "group_size:4")
    source = open_files(tmp_path)
    assert "group_size:4" in caplog.text
    assert [source[n]["image"] for n in (8, 0, 5)] == [
        b"image 8",
        b"image 0",
        b"image 5",
    ]


def test_the_fingerprint_is_of_the_content(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    first = open_files(folder)
    assert open_files(other).fingerprint == first.fingerprint
    assert open_files(other, label="label").fingerprint != first.fingerprint
    write(other / "b-1.array_record", [record(99), *map(record, range(8, 12))])
    assert open_files(other, "*-1.array_record").fingerprint != first.fingerprint


def test_threads_and_other_processes(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.bytes(2000) for _ in range(500)]
    for part in range(5):
        records = (record(n, image=images[n]) for n in range(part, 500, 5))
        write(tmp_path / f"{part}.array_record", records)
    source = pickle.loads(pickle.dumps(open_files(tmp_path)))

    def check(index):
        n = index % 100 * 5 + index // 100
        assert source[index] == {
            "image": images[n],
            "captions": (f"first {n}", "café"),
        }

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(check, rng.integers(500, size=4000).tolist()))


def as_lists(values):
    """The values that `parse_example` returns for those of `encode_example`."""

    def parsed(value):
        if isinstance(value, bytes | str):
            value = [value]
        if isinstance(value, int) or not all(isinstance(v, str) for v in value):
            return value
        return [text.encode() for text in value]

    return {name: parsed(value) for name, value in values.items()}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(examples)
def test_parsing_inverts_encoding(values):
    data = encode_example(values)
    assert data == encode_example(dict(reversed(values.items())))
    assert parse_example(data, None) == as_lists(values)
    for name in values:
        assert parse_example(data, [name]) == as_lists({name: values[name]})


@settings(derandomize=True, max_examples=100, deadline=None)
@given(examples)
def test_protobuf_reads_and_writes_the_same(values):
    from tensorflow_datasets.proto import tf_example_pb2

    Example = tf_example_pb2.Example
    message = Example.FromString(encode_example(values))
    features = message.features.feature
    assert set(features) == set(values)
    for name, value in as_lists(values).items():
        kind = features[name].WhichOneof("kind")
        numbers = [value] if isinstance(value, int) else value
        assert list(getattr(features[name], kind).value) == numbers
    actual = parse_example(message.SerializeToString(), None)
    for name, value in as_lists(values).items():
        one = isinstance(value, list) and len(value) == 1 and type(value[0]) is int
        assert actual[name] == (value[0] if one else value)
    message = Example()
    message.features.feature["x"].float_list.value.extend([0.5, -2.0])
    assert parse_example(message.SerializeToString(), ["x"]) == {"x": [0.5, -2.0]}


@settings(derandomize=True, max_examples=2000, deadline=None)
@given(data=st.binary(max_size=60))
@example(data=b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_any_bytes_are_an_example_or_a_bad_record(data):
    try:
        assert isinstance(parse_example(data, None), dict)
    except BadRecord:
        pass


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(values=examples, data=st.data())
def test_random_damage_gives_records_or_bad_records(values, data):
    content = bytearray(encode_example(values | {"captions": ["a", "b"], "n": [1, 2]}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    del content[data.draw(st.integers(0, len(content))) :]
    try:
        parse_example(bytes(content), None)
    except BadRecord:
        pass


def test_invalid_features():
    for value in (1.5, None, [1, "a"], [None]):
        with pytest.raises(TypeError):
            encode_example({"x": value})
    packed = b"\x0a\x06" + struct.pack("<f", 1.0) + b"\0\0"
    entry = b"\x0a\x01x\x12" + bytes([len(packed) + 2, 0x12, len(packed)]) + packed
    features = b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(BadRecord, match="half a number"):
        parse_example(b"\x0a" + bytes([len(features)]) + features, None)
