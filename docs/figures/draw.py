"""The drawing vocabulary of the documentation's figures: box, arrow, label, group.

    python docs/figures/draw.py      # writes all figures beside this file

A figure is a white card with its own border, so that it reads on any background. The
kinds of boxes and arrows mean the same in every figure; `legend` says what.
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
FONT = "Helvetica, Arial, sans-serif"
INK, MUTED, CARD, EDGE = "#1f2933", "#52606d", "#ffffff", "#c9d1d9"
# Kind of a box -> fill, stroke, dashes.
BOXES = {
    "data": ("#f1f3f5", "#868e96", ""),
    "trained": ("#eaf2fb", "#4a78a8", ""),
    "target": ("#f2ecfa", "#7d5fb2", "5 3"),
    "loss": ("#fdf3e1", "#b98a2f", ""),
    "plug": ("#e9f6ee", "#3f8f5f", "5 3"),
    "plain": ("#ffffff", "#868e96", ""),
}
# Kind of an arrow -> stroke, dashes.
ARROWS = {
    "flow": ("#3d5a80", ""),
    "detached": ("#7d5fb2", ""),
    "average": ("#7d5fb2", "2 3"),
    "plug": ("#3f8f5f", "5 3"),
    "loss": ("#b98a2f", ""),
}
MEANINGS = {
    "data": "data",
    "trained": "trained",
    "target": "target: averaged copy, no gradient",
    "loss": "objective",
    "plug": "CLIPin plugs in here",
}
TITLE, SMALL, SUBSCRIPT = 13.0, 12.0, 11.0  # px
_WIDE = 0.58  # mean width of a bold letter over its height
_MARK = re.compile(r"_\{([^}]*)\}")


class Figure:
    """An SVG drawing, in pixels from the top left.

    Attributes:
      width, height: of the card.
      name: for readers who cannot see it.
    """

    def __init__(self, width: int, height: int, name: str):
        self.width, self.height, self.name = width, height, name
        self.parts: list[str] = []

    def box(
        self, x: float, y: float, w: float, h: float, title: str, note: str = "",
        *, kind: str = "trained",
    ) -> None:  # fmt: skip
        """Draws a box with a bold title and lines of a note, divided by "|".

        Raises:
          ValueError: the text does not fit.
        """
        fill, stroke, dashes = BOXES[kind]
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" '
            f'fill="{fill}" stroke="{stroke}"{_dashed(dashes)}/>'
        )
        notes = note.split("|") if note else []
        for text, size in [(title, TITLE), *((line, SMALL) for line in notes)]:
            if _width(text, size) > w - 6:
                raise ValueError(f"{self.name}: {text!r} is wider than its box")
        lines = 1 + len(notes)
        if lines * 16 > h:
            raise ValueError(f"{self.name}: {title!r} has too many lines")
        top = y + h / 2 - 16 * lines / 2 + 12
        self.label(x + w / 2, top, title, bold=True, anchor="middle")
        for i, line in enumerate(notes):
            below = top + 16 * (i + 1)
            self.label(x + w / 2, below, line, size=SMALL, color=MUTED, anchor="middle")

    def cell(self, x: float, y: float, w: float, h: float, *, kind: str) -> None:
        """Draws a rectangle without text, such as a part of a bar."""
        fill, stroke, _ = BOXES[kind]
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}" '
            f'stroke="{stroke}"/>'
        )

    def label(
        self, x: float, y: float, text: str,
        *, size: float = TITLE, bold: bool = False, color: str = INK,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Writes a line; `_{...}` is a subscript.

        Raises:
          ValueError: the line leaves the card.
        """
        width = _width(text, size)
        left = x - dict(start=0, middle=width / 2, end=width)[anchor]
        if left < 4 or left + width > self.width - 4:
            raise ValueError(f"{self.name}: {text!r} leaves the card")
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"'
            f'{weight} fill="{color}">{_rich(text)}</text>'
        )

    def note(self, x: float, y: float, text: str, *, anchor: str = "start") -> None:
        """Writes a small line in grey."""
        self.label(x, y, text, size=SMALL, color=MUTED, anchor=anchor)

    def arrow(
        self, *points: tuple[float, float], kind: str = "flow", over: bool = False
    ) -> None:
        """Draws a line through the points, with a head at the last.

        over: whether to leave a gap in the lines that it crosses.
        """
        stroke, dashes = ARROWS[kind]
        path = " ".join(
            f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(points)
        )
        if over:
            self.parts.append(
                f'<path d="{path}" fill="none" stroke="{CARD}" stroke-width="8"/>'
            )
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="1.5"'
            f'{_dashed(dashes)} marker-end="url(#{kind})"/>'
        )

    def group(
        self, x: float, y: float, w: float, h: float, title: str, *, kind: str = "plain"
    ) -> None:
        """Draws a frame around what belongs together; draw it first."""
        fill, stroke, _ = BOXES[kind]
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="7" '
            f'fill="{fill}" fill-opacity="0.35" stroke="{stroke}" '
            f'stroke-opacity="0.6"/>'
        )
        self.label(x + 10, y + 18, title, bold=True, size=SMALL, color=stroke)

    def legend(self, y: float, kinds: Sequence[str], x: float = 16) -> None:
        """Draws what kinds of boxes mean, in one line."""
        for kind in kinds:
            fill, stroke, dashes = BOXES[kind]
            self.parts.append(
                f'<rect x="{x:g}" y="{y - 10:g}" width="18" height="12" rx="3" '
                f'fill="{fill}" stroke="{stroke}"{_dashed(dashes)}/>'
            )
            self.note(x + 24, y, MEANINGS[kind])
            x += 52 + 6.3 * len(MEANINGS[kind])

    def svg(self) -> str:
        """Returns the file's text."""
        heads = "".join(
            f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{stroke}"/>'
            "</marker>"
            for kind, (stroke, _) in ARROWS.items()
        )
        name = escape(self.name)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
            f'height="{self.height}" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="{FONT}" role="img" aria-label="{name}">'
            f"<title>{name}</title><defs>{heads}</defs>"
        )
        card = (
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" '
            f'height="{self.height - 1}" rx="10" fill="{CARD}" stroke="{EDGE}"/>'
        )
        return "\n".join([head, card, *self.parts, "</svg>\n"])


def _dashed(dashes: str) -> str:
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _width(text: str, size: float) -> float:
    plain = _MARK.sub(r"\1", text)
    return len(plain) * size * _WIDE * (1 if size == TITLE else 0.87)


def _rich(text: str) -> str:
    """Returns the markup of a text; a subscript is lower and smaller."""
    parts = _MARK.split(text)
    out = escape(parts[0])
    for low, after in zip(parts[1::2], parts[2::2], strict=True):
        out += f'<tspan dy="3" font-size="{SUBSCRIPT:g}">{escape(low)}</tspan>'
        out += f'<tspan dy="-3">{escape(after)}</tspan>' if after else ""
    return out


def all_figures() -> dict[str, str]:
    """Returns file name -> text of every figure."""
    import frameworks
    import plugin
    import system

    figures: dict[str, Figure] = {}
    for module in (frameworks, plugin, system):
        figures |= module.figures()
    return {f"{name}.svg": figure.svg() for name, figure in figures.items()}


if __name__ == "__main__":
    for name, text in all_figures().items():
        (HERE / name).write_text(text)
        print(HERE / name)
