"""Writes small folders of images and captions in the COCO layout."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from clipin_jax.config import load_config


def encoded_image(
    seed: int, size: tuple[int, int] = (60, 50), kind: str = "JPEG"
) -> bytes:
    """Returns an encoded image, different for each seed; size: (width, height)."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


def pair_folder(
    folder: Path,
    captions: Sequence[Sequence[str]],
    images: Sequence[bytes] = (),
    classes: int = 0,
) -> Path:
    """Writes a folder with an image for each list of captions.

    With `classes`, image n has class n % classes.
    """
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": n, "name": f"class {n}"} for n in range(classes)]
    for n, texts in enumerate(captions):
        entry = {"id": n, "file_name": f"{n}.jpg"}
        content["images"].append(
            entry | ({"category_id": n % classes} if classes else {})
        )
        content["annotations"] += [{"image_id": n, "caption": text} for text in texts]
        data = images[n] if images else encoded_image(n)
        (folder / "images" / f"{n}.jpg").write_bytes(data)
    (folder / "captions_train.json").write_text(json.dumps(content))
    return folder


def pair_config(folder: Path, *overrides: str) -> ConfigDict:
    """Returns a config that trains on such a folder, with batches of 4."""
    changes = ("batch_size=4", "evals={}", *overrides)  # it has no "val" split
    return load_config(f"clip:data={folder},small", changes)
