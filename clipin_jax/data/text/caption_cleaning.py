"""Cleans captions before they are tokenized, by the rules of two papers.

Both lower-case, replace each run of white space by one space and keep the first words.
"delete_punctuation" is the rule of ALBEF (Li et al. 2021, arXiv 2107.07651; reference:
`dataset/utils.py`), "space_punctuation" that of BLIP (Li et al. 2022, arXiv 2201.12086;
reference: `data/utils.py`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from clipin_jax.errors import ClipinError, check_choice


class _Rule(NamedTuple):
    """A rule of cleaning.

    deleted: characters to delete.
    spaced: characters to replace by a space.
    words: (word, replacement), applied after that.
    """

    deleted: str
    spaced: str
    words: tuple[tuple[str, str], ...] = ()

    def table(self) -> dict[int, int | None]:
        return str.maketrans(self.spaced, " " * len(self.spaced), self.deleted)


_RULES = {
    "delete_punctuation": _Rule(",.'!?\"()*#:;~", "-/", (("<person>", "person"),)),
    "space_punctuation": _Rule("", '.!"()*#:;~'),
}
_TABLES = {name: rule.table() for name, rule in _RULES.items()}
_RUN = re.compile(r"\s{2,}")


def check_cleaning(rule: str, max_words: int) -> None:
    """Checks `data.caption_cleaning` and `data.caption_words`. Raises ClipinError."""
    check_choice("data.caption_cleaning", rule, ("", *_RULES))
    if max_words < 0:
        raise ClipinError(
            f"data.caption_words is {max_words}; it must be how many words of a "
            "caption are kept, or 0 for all"
        )


def clean_caption(text: str, rule: str = "", max_words: int = 0) -> str:
    """Returns a cleaned caption.

    Args:
      text: the caption.
      rule: "delete_punctuation", "space_punctuation", or "" for none.
      max_words: how many words to keep; 0 for all.
    """
    if rule:
        text = text.lower().translate(_TABLES[rule])
        for word, other in _RULES[rule].words:
            text = text.replace(word, other)
        # A single tab or line break inside is kept, as in the references.
        text = _RUN.sub(" ", text).rstrip("\n").strip(" ")
    if not max_words:
        return text
    words = text.split(" ") if rule else text.split()
    return " ".join(words[:max_words]) if len(words) > max_words else text
