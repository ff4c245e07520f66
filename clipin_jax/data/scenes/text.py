"""Sentences about a scene, from a small grammar with synonyms.

    sentence  = [opening] things [place or relation] [background]
    thing     = a [size] color shape
A full sentence names colour and shape of every object. Sizes, places, relations and the
background are named or left out at random.
"""

from __future__ import annotations

import re

import numpy as np

from clipin_jax.data.scenes.content import Scene, Thing

# The first word of each row is the name of the class.
SHAPE_WORDS = {
    "circle": ("circle", "disc", "round dot"),
    "ring": ("ring", "hoop", "donut"),
    "square": ("square", "box"),
    "diamond": ("diamond", "rhombus"),
    "triangle": ("triangle", "wedge"),
    "hexagon": ("hexagon", "six-sided tile"),
    "star": ("star", "pointed star"),
    "cross": ("cross", "plus sign"),
}
COLOR_WORDS = {
    "red": ("red", "crimson"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "brown": ("brown", "chestnut"),
}
_SIZES = (("small", "tiny", "little"), ("medium", "mid-sized"), ("large", "big"))
_PLACES = (
    ("in the top left corner", "at the upper left"),
    ("at the top", "in the upper part"),
    ("in the top right corner", "at the upper right"),
    ("on the left", "at the left edge"),
    ("in the middle", "in the centre"),
    ("on the right", "at the right edge"),
    ("in the bottom left corner", "at the lower left"),
    ("at the bottom", "in the lower part"),
    ("in the bottom right corner", "at the lower right"),
)
_OPENINGS = (
    "",
    "",
    "",
    "a picture of ",
    "there is ",
    "an image with ",
    "we see ",
    "this shows ",
)
_LEFT, _RIGHT, _ABOVE, _BELOW = "to the left of", "to the right of", "above", "below"
_PLAIN, _TEXTURED = "on a plain background", "on a textured ground"
_THING = "thing"
# Probabilities.
_SYNONYM, _NAME_SIZE, _NAME_PLACE, _NAME_BACKGROUND = 0.3, 0.5, 0.5, 0.2


def full_sentence(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a sentence that names every object, in random order."""
    order = rng.permutation(len(scene.things))
    things = [scene.things[number] for number in order]
    relation = _relation(things[:2], rng) if len(things) > 1 else ""
    phrases = [relation] if relation else []
    phrases += [_place(thing, rng) for thing in (things[2:] if relation else things)]
    text = _pick(_OPENINGS, rng) + _join(phrases)
    if rng.random() < _NAME_BACKGROUND:
        text += f" {_PLAIN if scene.is_plain else _TEXTURED}"
    return text


def partial_sentence(scene: Scene, rng: np.random.Generator) -> str:
    """Returns a sentence that names the colour or the shape of one object only."""
    thing = scene.things[rng.integers(len(scene.things))]
    if rng.random() < 0.5:
        noun = f"{_article(_word(COLOR_WORDS[thing.color], rng))} {_THING}"
    else:
        noun = _article(_word(SHAPE_WORDS[thing.shape], rng))
    return _pick(_OPENINGS, rng) + noun


def stock_sentence(scene: Scene) -> str:
    """Returns one of eight sentences, which names only the first object's shape."""
    return f"a picture of a {scene.things[0].shape}"


def name_thing(thing: Thing) -> str:
    """Returns colour and shape, by their usual words."""
    return _article(f"{thing.color} {thing.shape}")


def vocabulary() -> tuple[str, ...]:
    """Returns every word of the grammar, sorted; hyphens and commas separate words."""
    phrases = ["a", "an", "and", _THING, _LEFT, _RIGHT, _ABOVE, _BELOW]
    phrases += [_PLAIN, _TEXTURED, *_OPENINGS]
    for table in (SHAPE_WORDS.values(), COLOR_WORDS.values(), _SIZES, _PLACES):
        phrases += [phrase for row in table for phrase in row]
    return tuple(sorted({word for p in phrases for word in re.findall("[a-z]+", p)}))


def _relation(things: list[Thing], rng: np.random.Generator) -> str:
    """Returns the relation of two objects; "" if it is left out or ambiguous."""
    (row1, column1), (row2, column2) = (divmod(thing.cell, 3) for thing in things)
    if row1 == row2:
        relation = _LEFT if column1 < column2 else _RIGHT
    elif column1 == column2:
        relation = _ABOVE if row1 < row2 else _BELOW
    else:
        return ""
    if rng.random() >= _NAME_PLACE:
        return ""
    return f"{_noun(things[0], rng)} {relation} {_noun(things[1], rng)}"


def _place(thing: Thing, rng: np.random.Generator) -> str:
    noun = _noun(thing, rng)
    if rng.random() < _NAME_PLACE:
        return f"{noun} {_pick(_PLACES[thing.cell], rng)}"
    return noun


def _noun(thing: Thing, rng: np.random.Generator) -> str:
    color = _word(COLOR_WORDS[thing.color], rng)
    shape = _word(SHAPE_WORDS[thing.shape], rng)
    if rng.random() < _NAME_SIZE:
        return _article(f"{_pick(_SIZES[thing.size], rng)} {color} {shape}")
    return _article(f"{color} {shape}")


def _word(synonyms: tuple[str, ...], rng: np.random.Generator) -> str:
    """Picks mostly the first word, the name of the class."""
    return _pick(synonyms[1:], rng) if rng.random() < _SYNONYM else synonyms[0]


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.random() * len(choices))]


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _join(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]
