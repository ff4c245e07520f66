"""Any data set that tensorflow-datasets prepared as ArrayRecord files.

Reading needs no TensorFlow. Preparing the files does, once:
`builder.download_and_prepare(file_format="array_record")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipin_jax.data.formats.caption_values import caption_texts
from clipin_jax.data.source import (
    Annotations,
    BadRecord,
    Record,
    clean_captions,
    fingerprint,
)
from clipin_jax.errors import ClipinError, check_choice, first_line


class Tfds:
    """One record per example.

    Features are named by path, "captions/text" for the key "text" in the feature
    "captions".

    Args:
      folder: of one version, with dataset_info.json and features.json.
      split: in the notation of tensorflow-datasets: "train", "validation[:10%]".
      image: the feature with the image. Encoded ones stay encoded.
      captions: the feature with one text or several.
      label: None, or the feature with a class label or several.

    Raises:
      ClipinError: the folder holds no prepared data set, not in ArrayRecord files, or
        some are missing; no such split; a feature is missing or has another type.
    """

    def __init__(
        self,
        folder: str,
        split: str = "train",
        image: str = "image",
        captions: str = "captions",
        label: str | None = None,
    ):
        self._folder, self._split = Path(folder).expanduser(), split
        self._image, self._captions, self._label = image, captions, label
        builder = _open(self._folder)
        _check_files(builder.info.splits, split, self._folder)
        image_feature = _feature(builder, image, "an image", _is_image)
        _feature(builder, captions, "text", _is_text)
        self.classes = ()
        if label is not None:
            feature = _feature(builder, label, "a class label", _is_label)
            self.classes = tuple(feature.names)
        encoded = image if hasattr(image_feature, "encoding_format") else None
        self._examples = _read_split(builder, split, encoded, self._folder)
        self.fingerprint = fingerprint(
            "tfds 1",
            builder.info.full_name,
            builder.info.dataset_size,
            (split, len(self._examples), image, captions, label),
        )

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """Returns a record; image: bytes of an image feature, pixels of a tensor."""
        example = self._example(index)
        image = _at(example, self._image)
        return {"image": image, **self._annotations(example)}

    def annotations(self, index: int) -> Annotations:
        """Returns captions and label of a record; its image is not decoded."""
        return self._annotations(self._example(index))

    def describe(self, index: int) -> str:
        """Returns number, split and folder of a record."""
        return f"example {index} of split {self._split!r} in {self._folder}"

    def _example(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        try:
            return self._examples[index]
        # The library raises all kinds of errors on a damaged file.
        except Exception as error:
            raise BadRecord(f"damaged record: {first_line(error)}") from error

    def _annotations(self, example: dict[str, Any]) -> Annotations:
        values = np.asarray(_at(example, self._captions), object)
        texts = [_text(value) for value in values.ravel()]
        several = texts if values.ndim else texts[0]
        captions = clean_captions(caption_texts(several, self._captions))
        if not captions:
            raise BadRecord(f"no caption in feature {self._captions!r}")
        if self._label is None:
            return {"captions": captions}
        label = np.asarray(_at(example, self._label))
        wrong = label[(label < 0) | (label >= len(self.classes))]
        if wrong.size:  # -1 marks a record without a label
            raise BadRecord(f"label {wrong[0]} is none of {len(self.classes)} classes")
        return {"captions": captions, "label": label.tolist()}


def _open(folder: Path) -> Any:
    # Imported here: it takes a second or two, and most runs read something else.
    import tensorflow_datasets as library

    if not (folder / "dataset_info.json").is_file():
        raise ClipinError(
            f"{folder} holds no prepared data set (dataset_info.json is missing); set "
            "source.folder to the folder of one version, such as NAME/1.0.0"
        )
    try:
        builder = library.builder_from_directory(str(folder))
        file_format = builder.info.file_format
    # The library raises all kinds of errors on a malformed description.
    except Exception as error:
        raise ClipinError(f"{folder} cannot be opened: {_describe(error)}") from error
    if file_format is None or file_format.value != "array_record":
        raise ClipinError(
            f"{folder} was not prepared as ArrayRecord files, which are the ones that "
            "can be read without TensorFlow; prepare it with file_format='array_record'"
        )
    return builder


def _check_files(splits: Mapping[str, Any], split: str, folder: Path) -> None:
    if not splits:
        raise ClipinError(f"{folder} has no splits: it was never prepared to the end")
    for part in split.split("+"):
        name = part.split("[")[0].strip()
        check_choice("tfds.split", name, tuple(splits))
        files = [Path(path) for path in splits[name].filepaths]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise ClipinError(
                f"{len(missing)} of {len(files)} files of split {name!r} are missing "
                f"in {folder}, among them {missing[0]}"
            )


def _feature(builder: Any, path: str, meaning: str, fits: Callable[[Any], bool]) -> Any:
    """Returns the feature at a path; of a sequence, the feature of its items."""
    feature = builder.info.features
    for key in path.split("/"):
        known = list(feature.keys()) if hasattr(feature, "keys") else []
        if key not in known:
            raise ClipinError(
                f"{builder.data_dir} has no feature {path!r}: {key!r} is not among "
                f"{known}; set source.image, source.captions, source.label"
            )
        feature = getattr(feature[key], "feature", feature[key])
    if not fits(feature):
        raise ClipinError(
            f"feature {path!r} of {builder.data_dir} is not {meaning}, but "
            f"{type(feature).__name__}"
        )
    return feature


def _is_image(feature: Any) -> bool:
    is_uint8 = getattr(feature, "np_dtype", None) == np.uint8
    return is_uint8 and len(feature.shape) in (2, 3)


def _is_text(feature: Any) -> bool:
    return getattr(feature, "np_dtype", None) == np.object_


def _is_label(feature: Any) -> bool:
    return hasattr(feature, "names")


def _read_split(builder: Any, split: str, encoded: str | None, folder: Path) -> Any:
    import tensorflow_datasets as library

    decoders = _nested(encoded, library.decode.SkipDecoding()) if encoded else None
    try:
        return builder.as_data_source(split, decoders=decoders)
    # Wrong split arithmetic, or a format that no reader knows.
    except Exception as error:
        raise ClipinError(
            f"split {split!r} of {folder} cannot be read: {_describe(error)}"
        ) from error


def _nested(path: str, leaf: Any) -> dict[str, Any]:
    for key in reversed(path.split("/")):
        leaf = {key: leaf}
    return leaf


def _at(example: Any, path: str) -> Any:
    for key in path.split("/"):
        example = example[key]
    return example


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)


def _describe(error: Exception) -> str:
    return first_line(f"{type(error).__name__}: {error}")
