"""Writes the same pairs in each format, with Python or the format's own library."""

import base64
import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.data.sources.test_tfds import describe


class Pair(NamedTuple):
    """An encoded image, its captions and its label."""

    image: bytes
    captions: tuple[str, ...]
    label: int


def write_pairs(
    name: str, folder: Path, pairs: Sequence[Pair], classes: Sequence[str]
) -> dict[str, Any]:
    """Writes pairs to a new folder; returns the arguments of the source for them."""
    folder.mkdir(parents=True)
    arguments = (WRITERS | CLASS_WRITERS)[name](folder, pairs, list(classes))
    return {"name": name.partition(":")[0], **arguments}


def write_images(folder: Path, pairs: Sequence[Pair]) -> list[str]:
    """Writes the images to `images/`; returns their names, in order."""
    (folder / "images").mkdir()
    names = [f"{number:05}.jpg" for number in range(len(pairs))]
    for name, pair in zip(names, pairs, strict=True):
        (folder / "images" / name).write_bytes(pair.image)
    return names


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def coco(folder, pairs, classes):
    numbered = list(enumerate(zip(write_images(folder, pairs), pairs, strict=True)))
    images = [
        {"id": number, "file_name": name, "category_id": pair.label}
        for number, (name, pair) in numbered
    ]
    annotations = [
        {"image_id": number, "caption": text}
        for number, (_, pair) in numbered
        for text in pair.captions
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(classes)]
    tables = dict(images=images, annotations=annotations, categories=categories)
    write_json(folder / "captions_train.json", tables)
    return dict(folder=str(folder), labels="category")


def karpathy(folder, pairs, classes):
    images = [
        dict(
            filename=name, split="train", sentences=[{"raw": t} for t in pair.captions]
        )
        for name, pair in zip(write_images(folder, pairs), pairs, strict=True)
    ]
    write_json(folder / "dataset_coco.json", {"images": images})
    return dict(folder=str(folder), images="images")


def json_list(folder, pairs, classes):
    entries = [
        {"image": name, "caption": list(pair.captions), "class": classes[pair.label]}
        for name, pair in zip(write_images(folder, pairs), pairs, strict=True)
    ]
    half = len(entries) // 2
    write_json(folder / "1.json", entries[:half])
    write_json(folder / "2.json", entries[half:])
    return dict(
        files=str(folder / "*.json"),
        folder=str(folder / "images"),
        label="class",
        classes=tuple(classes),
    )


def table(folder, pairs, classes, *, ending, separator):
    columns = [f"title{n}" for n in range(max(len(pair.captions) for pair in pairs))]
    path = folder / f"pairs.{ending}"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=separator)
        rows.writerow(["filepath", "class", *columns])
        for name, pair in zip(write_images(folder, pairs), pairs, strict=True):
            blank = [""] * (len(columns) - len(pair.captions))
            rows.writerow([f"images/{name}", pair.label, *pair.captions, *blank])
    kinds = tuple(columns)
    return dict(files=str(path), captions=kinds, label="class", classes=tuple(classes))


def csv_table(folder, pairs, classes):
    return table(folder, pairs, classes, ending="csv", separator=",")


def tsv_table(folder, pairs, classes):
    return table(folder, pairs, classes, ending="tsv", separator="\t")


def json_lines(folder, pairs, classes):
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for name, pair in zip(write_images(folder, pairs), pairs, strict=True):
            row = {"filepath": name, "title": list(pair.captions), "class": pair.label}
            file.write(json.dumps(row) + "\n")
    return dict(
        files=str(folder / "pairs.jsonl"),
        folder=str(folder / "images"),
        label="class",
        classes=tuple(classes),
    )


def parquet(folder, pairs, classes):
    import pyarrow
    import pyarrow.parquet

    columns = {
        "image": [pair.image for pair in pairs],
        "caption": [list(pair.captions) for pair in pairs],
        "class": [pair.label for pair in pairs],
    }
    rows, half = pyarrow.table(columns), len(pairs) // 2
    for shard, part in enumerate((rows[:half], rows[half:])):
        path = folder / f"{shard:03}.parquet"
        pyarrow.parquet.write_table(part, path, row_group_size=10)
    pattern = str(folder / "{000..001}.parquet")
    return dict(files=pattern, label="class", classes=tuple(classes))


def webdataset(folder, pairs, classes):
    half = len(pairs) // 2
    for shard, part in enumerate((pairs[:half], pairs[half:])):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as tar:
            for number, pair in enumerate(part):
                meta = {"caption": pair.captions, "label": pair.label}
                add(tar, f"{number:06}.jpg", pair.image)
                add(tar, f"{number:06}.txt", str(pair.captions[0]).encode())
                add(tar, f"{number:06}.json", json.dumps(meta).encode())
    return dict(
        files=str(folder / "{000..001}.tar"),
        captions="json:caption",
        label="json:label",
        classes=tuple(classes),
    )


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def array_record(folder, pairs, classes):
    from array_record.python.array_record_module import ArrayRecordWriter

    from clipin_jax.data.formats.example_proto import encode_example

    writer = ArrayRecordWriter(str(folder / "pairs.array_record"), "group_size:1")
    for pair in pairs:
        features = {"image": pair.image, "captions": list(pair.captions)}
        writer.write(encode_example({**features, "label": pair.label}))
    writer.close()
    pattern = str(folder / "*.array_record")
    return dict(files=pattern, label="label", classes=tuple(classes))


def tfds(folder, pairs, classes):
    import tensorflow_datasets as library
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    kinds = library.features
    features = kinds.FeaturesDict(
        {
            "image": kinds.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "captions": kinds.Sequence(kinds.Text()),
            "label": kinds.ClassLabel(names=classes),
        }
    )
    features.save_config(str(folder))
    serializer, size = ExampleSerializer(features.get_serialized_info()), 0
    path = folder / "pets-train.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for pair in pairs:
        example = dict(
            image=io.BytesIO(pair.image), captions=pair.captions, label=pair.label
        )
        record = serializer.serialize_example(features.encode_example(example))
        size += len(record)
        writer.write(record)
    writer.close()
    describe(folder, [len(pairs)], size)
    return dict(folder=str(folder), label="label")


def hf_datasets(folder, pairs, classes):
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Sequence(datasets.Value("string")),
            "label": datasets.ClassLabel(names=classes),
        }
    )
    columns = {
        "image": [{"bytes": pair.image, "path": None} for pair in pairs],
        "caption": [list(pair.captions) for pair in pairs],
        "label": [pair.label for pair in pairs],
    }
    rows = datasets.Dataset.from_dict(columns, features=features)
    rows.save_to_disk(str(folder))
    return dict(folder=str(folder), label="label")


def image_folder(folder, pairs, classes):
    """Writes images to folders of classes. The format has no captions."""
    for number, pair in enumerate(pairs):
        path = folder / "train" / classes[pair.label] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pair.image)
    return dict(folder=str(folder), split="train")


def npz(folder, pairs, classes):
    """Writes pixels and labels. The format has no captions."""
    import numpy as np

    from clipin_jax.data.image.decode import decode

    images = np.stack([decode(pair.image) for pair in pairs])
    labels = np.array([[pair.label] for pair in pairs], np.uint8)
    path = folder / "set.npz"
    np.savez(path, train_images=images, train_labels=labels)
    return dict(file=str(path), classes=tuple(classes))


def voc(folder, pairs, classes):
    """Writes images with one object each. The format has no captions."""
    for inside in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / inside).mkdir(parents=True)
    names = [f"{number:06}" for number in range(len(pairs))]
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(names))
    sides = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    for name, pair in zip(names, pairs, strict=True):
        (folder / f"JPEGImages/{name}.jpg").write_bytes(pair.image)
        item = f"<name>{classes[pair.label]}</name><bndbox>{sides}</bndbox>"
        annotation = f"<annotation><object>{item}</object></annotation>"
        (folder / f"Annotations/{name}.xml").write_text(annotation)
    return dict(folder=str(folder))


def muge(folder, pairs, classes):
    with (folder / "train_imgs.tsv").open("wb") as file:
        for number, pair in enumerate(pairs, 100):
            file.write(b"%d\t%s\n" % (number, base64.urlsafe_b64encode(pair.image)))
    with (folder / "train_texts.jsonl").open("w", encoding="utf-8") as file:
        for number, pair in enumerate(pairs, 100):
            for text in pair.captions:
                row = {"text": text, "image_ids": [number]}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return dict(folder=str(folder))


def caption_files(folder, pairs, classes):
    for number, pair in enumerate(pairs):
        (folder / f"{number:05}.jpg").write_bytes(pair.image)
        content = {"caption": pair.captions, "label": pair.label}
        write_json(folder / f"{number:05}.json", content)
    return dict(
        folder=str(folder), captions="json:caption", label="json:label", classes=classes
    )


def auto(folder, pairs, classes):
    csv_table(folder, pairs, classes)
    return dict(path=str(folder))


WRITERS = {
    "auto": auto,
    "caption_files": caption_files,
    "coco": coco,
    "karpathy": karpathy,
    "json_list": json_list,
    "table:csv": csv_table,
    "table:tsv": tsv_table,
    "table:jsonl": json_lines,
    "parquet": parquet,
    "webdataset": webdataset,
    "array_record": array_record,
    "tfds": tfds,
    "hf_datasets": hf_datasets,
    "muge": muge,
    "image_folder": image_folder,
}
# These formats have no captions: sources make them from class names, as for
# image_folder.
CLASS_WRITERS = {"npz": npz, "voc": voc}
