"""What a record says whose classes are all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence

from clipin_jax.data.source import Annotations

NO_CLASS = "none of the classes"  # the caption of a record that belongs to none


def annotations_of(classes: Sequence[str], label: int | list[int]) -> Annotations:
    """The label, and a caption made of the names of its classes."""
    named = [label] if isinstance(label, int) else label
    caption = ", ".join(classes[index] for index in named) or NO_CLASS
    return {"captions": (caption,), "label": label}
