import errno
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.data import make_source
from clipin_jax.data.image.decode import decode
from clipin_jax.data.sources.coco import Coco
from clipin_jax.datatools.conversion import convert as tool
from clipin_jax.datatools.conversion.record_writers import FORMATS, TarWriter
from clipin_jax.datatools.conversion.shards import ShardWriter
from clipin_jax.errors import ClipinError
from tests.support.pair_folders import encoded_image, pair_config, pair_folder

CAPTIONS = [
    [f"caption {n}", f'a "second", {n}\non two lines', "日本語 🙂"] for n in range(11)
]

formats = pytest.mark.parametrize("to", FORMATS)


def convert(config, out: Path, to: str = "webdataset", **arguments) -> Any:
    """Returns exit code, the source that was printed, the manifest and all lines."""
    lines: list[str] = []
    arguments = {"records_per_file": 4} | arguments
    code = tool.convert(config, out, to=to, **arguments, print_line=lines.append)
    text = "\n".join(lines)
    if code:
        return code, None, None, text
    source = eval(text[text.index("source=") + len("source=") :])
    manifest = json.loads((out / "manifest.json").read_text())
    return code, make_source(**source), manifest, text


def checksums(folder: Path) -> dict[str, str]:
    files = [
        path for path in folder.iterdir() if path.suffix in (".tar", ".array_record")
    ]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


@formats
def test_written_records_equal_those_of_the_source(tmp_path, to):
    folder = pair_folder(tmp_path / "pairs", CAPTIONS, classes=3)
    config = pair_config(folder, "data.source.labels=category")
    out = tmp_path / "out"
    code, source, manifest, printed = convert(config, out, to)
    assert code == 0 and "11 records written and read again, 0 left out" in printed
    original = make_source(**config.data.source)
    assert len(source) == len(original) == 11
    assert source.classes == original.classes
    for index in range(11):
        assert source[index] == original[index]
    assert manifest["format"] == "clipin_jax 1"
    assert manifest["records"] == 11 and manifest["bad"] == []
    assert manifest["classes"] == list(original.classes)
    assert manifest["fingerprint"] == original.fingerprint
    assert manifest["source"]["folder"] == str(folder)
    ending = FORMATS[to].extension
    assert list(manifest["files"]) == [
        f"train-0000{n}-of-00003.{ending}" for n in range(3)
    ]
    for name, entry in manifest["files"].items():
        data = (out / name).read_bytes()
        assert entry["bytes"] == len(data)
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert [entry["records"] for entry in manifest["files"].values()] == [4, 4, 3]
    assert not (out / ".parts").exists()
    assert not (out / "manifest.partial.json").exists()


@formats
def test_two_conversions_are_equal_byte_for_byte(tmp_path, to):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    for name in ("one", "two"):
        convert(config, tmp_path / name, to)
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")


@formats
def test_pixels_become_lossless_files(tmp_path, to):
    config = load_config("clip:runlocal", ("data.source.length=6",))
    _, source, _, _ = convert(config, tmp_path / "out", to)
    original = make_source(**config.data.source)
    for index in range(6):
        record = source[index]
        assert isinstance(record["image"], bytes)
        np.testing.assert_array_equal(decode(record["image"]), original[index]["image"])
        assert record["captions"] == original[index]["captions"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_any_kind_of_image_is_read_again_from_a_tar(tmp_path, kind):
    images = [encoded_image(n, kind=kind) for n in range(4)]
    folder = pair_folder(tmp_path / "pairs", CAPTIONS[:4], images)
    _, source, _, _ = convert(pair_config(folder), tmp_path / "out")
    assert [source[n]["image"] for n in range(4)] == images


def test_unusable_records_are_left_out_and_listed(tmp_path):
    images = [encoded_image(n) for n in range(11)]
    images[2], images[9] = b"not an image", images[9][:300]
    folder = pair_folder(tmp_path / "pairs", CAPTIONS, images)
    config = pair_config(folder, "data.max_bad_fraction=0.2")
    _, source, manifest, printed = convert(config, tmp_path / "out")
    assert len(source) == manifest["records"] == 9 and "2 left out" in printed
    assert [bad["index"] for bad in manifest["bad"]] == [2, 9]
    assert manifest["bad"][0]["where"].endswith("2.jpg")
    assert all(bad["reason"] for bad in manifest["bad"])
    kept = [n for n in range(11) if n not in (2, 9)]
    assert [source[n]["image"] for n in range(9)] == [images[n] for n in kept]


def test_too_many_unusable_records_stop_the_conversion_unless_allowed(tmp_path):
    images = [encoded_image(n) for n in range(10)] + [b"not an image"]
    folder = pair_folder(tmp_path / "pairs", CAPTIONS, images)
    with pytest.raises(
        ClipinError, match=r"1 of 11 records .*10\.jpg.*raise the limit"
    ):
        convert(pair_config(folder), tmp_path / "out")
    config = pair_config(folder, "data.max_bad_fraction=0.2")
    _, source, manifest, printed = convert(config, tmp_path / "out")
    assert len(source) == 10 and len(manifest["bad"]) == 1
    assert "MB" not in printed  # all files were there already


@formats
def test_a_stopped_conversion_resumes(tmp_path, monkeypatch, to):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    out = tmp_path / "out"
    write = ShardWriter.write

    def stop(self, number, draft):
        if number == 1:
            (out / ".parts" / "draft-x").mkdir()  # as a kill would leave it
            (out / ".parts" / "draft-x" / "rest").write_bytes(b"half a file")
            raise KeyboardInterrupt
        return write(self, number, draft)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", stop)
        code, _, _, printed = convert(config, out, to)
    assert code == 75
    assert printed.endswith("stopped: run the same command to resume")
    assert not (out / "manifest.json").exists()
    first = next(out.glob("train-00000*")).stat()
    assert convert(config, out, to)[0] == 0
    assert next(out.glob("train-00000*")).stat().st_mtime_ns == first.st_mtime_ns
    convert(config, tmp_path / "at once", to)
    assert checksums(out) == checksums(tmp_path / "at once")
    manifests = [(f / "manifest.json").read_text() for f in (out, tmp_path / "at once")]
    assert manifests[0] == manifests[1]


def test_a_missing_or_cut_file_is_written_again(tmp_path):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    out = tmp_path / "out"
    convert(config, out)
    whole = checksums(out)
    names = sorted(whole)
    (out / names[0]).unlink()
    (out / names[1]).write_bytes(b"cut")
    convert(config, out)
    assert checksums(out) == whole
    assert "MB" not in convert(config, out)[3]


def test_a_folder_with_other_files_is_refused_unless_overwritten(tmp_path):
    out = tmp_path / "out"
    first = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    other = pair_config(pair_folder(tmp_path / "others", CAPTIONS[:5]))
    convert(first, out)
    with pytest.raises(ClipinError, match="another fingerprint.*--overwrite"):
        convert(other, out)
    with pytest.raises(ClipinError, match="another records_per_file: 4, now 3"):
        convert(first, out, records_per_file=3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ClipinError, match="not empty and has no manifest.json"):
        convert(first, tmp_path / "full")
    _, source, manifest, _ = convert(other, out, overwrite=True)
    assert len(source) == manifest["records"] == 5
    assert len(list(out.glob("*.tar"))) == 2
    convert(first, tmp_path / "full", overwrite=True)
    assert (tmp_path / "full" / "letter.txt").exists()


def test_a_damaged_manifest_is_a_one_line_error(tmp_path):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    convert(config, tmp_path / "out")
    for text in ("{", "[]", '{"files": {}}'):
        (tmp_path / "out" / "manifest.json").write_text(text)
        with pytest.raises(ClipinError, match="manifest.json is damaged"):
            convert(config, tmp_path / "out")


def test_bytes_changed_during_the_conversion_are_noticed(tmp_path, monkeypatch):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    add = TarWriter._add

    def damage(self, name, content):
        if name == "000000006.jpg":
            content = encoded_image(99)
        add(self, name, content)

    monkeypatch.setattr(TarWriter, "_add", damage)
    with pytest.raises(
        ClipinError, match="record 2 of train-00001.* not what was writ"
    ):
        convert(config, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == [
        "train-00000-of-00003.tar"
    ]


def test_a_full_disk_is_a_one_line_error(tmp_path, monkeypatch):
    def fail(self, index, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS))
    monkeypatch.setattr(TarWriter, "write", fail)
    with pytest.raises(
        ClipinError, match="No space left on device; fix this and .* resume"
    ):
        convert(config, tmp_path / "out")


def test_lists_of_labels_are_written_to_a_tar_that_does_not_read_them(tmp_path):
    folder = pair_folder(tmp_path / "pairs", CAPTIONS)
    file = folder / "captions_train.json"
    content = json.loads(file.read_text())
    for n, entry in enumerate(content["images"]):
        entry["objects"] = ["cat", "dog"][: 1 + n % 2]
    file.write_text(json.dumps(content))
    config = pair_config(folder, "data.source.labels=objects")
    _, source, _, printed = convert(config, tmp_path / "out")
    assert "lists of labels are written, but webdataset does not read them" in printed
    assert "label" not in source[0]


def test_the_command_line(tmp_path, capsys):
    folder = pair_folder(tmp_path / "pairs", CAPTIONS)
    argv = ["data", "convert", f"clip:data={folder}", str(tmp_path / "out")]
    assert main([*argv, "data.threads=1", "--to", "webdataset"]) == 0
    assert "source=dict(" in capsys.readouterr().out
    assert main([*argv, "--to", "webdataset", "--records-per-file", "0"]) == 78
    argv[-1] = "gs://bucket/folder"
    assert main(argv) == 78
    assert "not a local folder" in capsys.readouterr().err
    argv[-1] = str(tmp_path / "odd[1]")
    assert main(argv) == 78
    (tmp_path / "file").write_text("")
    argv[-1] = str(tmp_path / "file")
    assert main(argv) == 78
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    with pytest.raises(SystemExit):
        main([*argv, "--to", "csv"])


def test_a_text_file_has_the_first_caption(tmp_path):
    config = pair_config(pair_folder(tmp_path / "pairs", CAPTIONS[:3]))
    convert(config, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "train-00000-of-00001.tar") as tar:
        assert tar.getnames()[:3] == [
            f"000000000.{end}" for end in ("jpg", "json", "txt")
        ]
        text = tar.extractfile("000000001.txt")
        assert text is not None and text.read().decode() == "caption 1"


def test_a_source_with_labels_in_some_records_only_is_refused(tmp_path, monkeypatch):
    read = Coco.__getitem__

    def forget(self, index):
        record = read(self, index)
        return {k: v for k, v in record.items() if index != 5 or k != "label"}

    monkeypatch.setattr(Coco, "__getitem__", forget)
    folder = pair_folder(tmp_path / "pairs", CAPTIONS, classes=2)
    config = pair_config(folder, "data.source.labels=category")
    with pytest.raises(ClipinError, match="record 5.*has no label where others have 0"):
        convert(config, tmp_path / "out")


def test_a_mixture_becomes_one_set_without_weights(tmp_path):
    one, two = (pair_folder(tmp_path / n, CAPTIONS[:6]) for n in ("one", "two"))
    config = pair_config(one).copy_and_resolve_references()
    source = dict(config.data.source.to_dict(), weight=1.0)
    sources = dict(one=source, two=source | dict(folder=str(two)))
    with config.unlocked():
        config.data.source = dict(name="mixture", sources=sources)
    _, source, _, printed = convert(config, tmp_path / "out")
    assert (
        len(source) == 12
        and "weights of the mixture's sources are not written" in printed
    )


def test_kinds_and_lists_of_labels_come_back_from_records(tmp_path):
    folder = pair_folder(tmp_path / "pairs", CAPTIONS)
    file = folder / "captions_train.json"
    content = json.loads(file.read_text())
    for n, entry in enumerate(content["images"]):
        entry["objects"] = ["cat", "dog", "owl"][: 1 + n % 3]
    for n, entry in enumerate(content["annotations"]):
        entry["kind"] = "human" if n % 3 else "synthetic"
    file.write_text(json.dumps(content))
    config = pair_config(folder, "data.source.labels=objects")
    _, source, _, _ = convert(config, tmp_path / "out", "array_record")
    original = make_source(**config.data.source)
    assert original[0].get("kinds") == ("synthetic", "human", "human")
    assert [source[n] for n in range(11)] == [original[n] for n in range(11)]
