"""Classification of texts by a linear probe of the frozen text tower (SentEval).

Source: Conneau and Kiela 2018, arXiv 1803.05449: logistic regression on the sentence's
vector, regularisation chosen on data that is not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipin_jax.data.source import Annotations, fingerprint
from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.datasets.text_columns import read_columns
from clipin_jax.evaluators.linear_probe import LinearProbe
from clipin_jax.inference.encoder import Encoder, Features


class TextProbe(LinearProbe):
    """As `LinearProbe`, but of texts, and of the text tower's pooled features."""

    task = "text_probe"

    def __init__(
        self,
        encode: Encoder,
        *,
        file: str,
        train_file: str,
        val_file: str = "",
        columns: Sequence[str] = ("text", "label"),
        batch_size: int = 256,
        strengths: Sequence[float] = (),
        holdout_every: int = 5,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        """Reads all files, so that what is wrong with them shows before training.

        file: what is scored, .tsv or .csv with a header, see `read_columns`;
        train_file: what the probe learns from; val_file: what chooses among strengths,
        "" is one training text in `holdout_every`; columns: the names of the text's
        column and of the label's. The others are those of `LinearProbe`.
        Raises ClipinError for a file that cannot be used, and for labels of which the
        training file shows fewer than two, or not all.
        """
        if len(columns) != 2:
            raise ClipinError(
                f"columns must name a text and a label, got {tuple(columns)}"
            )
        rows = read_columns(train_file, columns)
        classes = tuple(sorted({label for _, label in rows}))
        if len(classes) < 2:
            raise ClipinError(
                f"all labels in {train_file} are {rows[0][1]!r}: a classifier needs two"
                " or more"
            )
        super().__init__(
            _TextsOnly(encode),  # pyright: ignore[reportArgumentType]
            source=Texts(file, read_columns(file, columns), classes),
            train_source=Texts(train_file, rows, classes),
            val_source=(
                Texts(val_file, read_columns(val_file, columns), classes)
                if val_file
                else None
            ),
            batch_size=batch_size,
            strengths=strengths,
            holdout_every=holdout_every,
            max_iterations=max_iterations,
            seed=seed,
        )


class Texts:
    """Labelled texts as a source; there is no picture to ask for."""

    def __init__(
        self, file: str, rows: Sequence[tuple[str, ...]], classes: tuple[str, ...]
    ) -> None:
        self.classes = classes
        self.texts = [text for text, _ in rows]
        self._file = file
        place = {name: label for label, name in enumerate(classes)}
        for number, (_, name) in enumerate(rows, 1):
            if name not in place:
                raise ClipinError(
                    f"{file}, row {number}: the label {name!r} is none of those in the"
                    f" training file: {', '.join(classes)}"
                )
        self._labels = [place[name] for _, name in rows]
        self.fingerprint = fingerprint("texts", self.texts, self._labels)

    def __len__(self) -> int:
        return len(self.texts)

    def annotations(self, index: int) -> Annotations:
        """The text as caption, and its label."""
        return {"captions": (self.texts[index],), "label": self._labels[index]}

    def describe(self, index: int) -> str:
        """The row of the file."""
        return f"row {index + 1} of {self._file}"


class _TextsOnly:
    """An encoder for which the texts of a source take the place of its pictures."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode

    def images(self, variables: Any, source: Texts, batch_size: int) -> Features:
        return self._encode.texts(variables, source.texts, batch_size)
