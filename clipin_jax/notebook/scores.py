"""The final scores of a run as a mapping, chance beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clipin_jax.errors import did_you_mean
from clipin_jax.report.fragment import fragment
from clipin_jax.report.run_history import RunHistory
from clipin_jax.report.run_report.scores import (
    STYLE,
    chance_key,
    is_score,
    scores_section,
)


class Scores(Mapping[str, float]):
    """The last value of every score, "EVALUATION/METRIC" -> number.

    A notebook shows them as a table with the chance level beside.

    Attributes:
      chance: the scores of a random guess, by the same names, where they are known.
    """

    def __init__(self, history: RunHistory):
        """Keeps the scores of a run."""
        self._history = history
        final = history.final_scores()
        self._values = {key: x for key, x in final.items() if is_score(key)}
        chance = {key: final.get(chance_key(key)) for key in self._values}
        self.chance = {key: x for key, x in chance.items() if x is not None}

    def __getitem__(self, key: str) -> float:
        if key not in self._values:
            raise KeyError(f"no score {key!r}: {did_you_mean(str(key), self._values)}")
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        if not self._values:
            return "no evaluation has run yet"
        return "\n".join(map(self._line, self._values))

    def _line(self, key: str) -> str:
        figure = self._history.figures.get(key)
        text = figure.text if figure else "{:.4g}".format
        beside = f"  (chance {text(self.chance[key])})" if key in self.chance else ""
        return f"{key:<42} {text(self._values[key]):>8}{beside}"

    def _repr_html_(self) -> str:
        return fragment(scores_section([self._history]), style=STYLE)
