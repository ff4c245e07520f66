"""Links: which keys of a config follow others, as text that a run folder keeps.

A page makes a key follow another one by a reference, `config.get_ref("total_steps")`.
Both have one value then, whichever is set. Arithmetic on a reference,
`config.get_ref("total_steps") // 10`, follows in one direction. As text, these are
"total_steps" and "(total_steps // 10)".
"""

import ast
import functools
import graphlib
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, RequiredValueError

_SYMBOLS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
}
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COPY = "FieldReference.identity.<locals>.<lambda>"  # of `get_oneway_ref`


class _NoTextError(Exception):
    """A reference uses a function, or a reference that is at no key."""


def fields(
    config: ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, ConfigDict, str, Any]]:
    """Yields dotted key, group, name and the field itself, references not followed."""
    for name, field in config.items(preserve_field_references=True):
        yield f"{prefix}{name}", config, name, field
        if isinstance(field, ConfigDict):
            yield from fields(field, f"{prefix}{name}.")


def is_unset(field: Any) -> bool:
    """Whether a field is a required placeholder without a value."""
    if not isinstance(field, FieldReference):
        return False
    try:
        field.get()
    except RequiredValueError:
        return True
    return False


def links(config: ConfigDict) -> dict[str, str]:
    """Returns the keys that follow others.

    A reference that has no such text, as one with a function, is left out.

    Returns:
      Dotted key -> the key that it follows, or arithmetic on keys in parentheses.
    """
    keys: dict[int, list[str]] = {}
    ends: dict[int, FieldReference] = {}
    for key, _, _, field in fields(config):
        if isinstance(field, FieldReference) and _has_value(field):
            end = _end(field)
            ends[id(end)] = end
            keys.setdefault(id(end), []).append(key)
    leaders = {end: min(equal, key=_rank) for end, equal in keys.items()}
    texts = {}
    for end, equal in keys.items():
        leader = leaders[end]
        texts |= {key: leader for key in equal if key != leader}
        try:
            if ends[end]._ops:
                texts[leader] = _arithmetic(ends[end], leaders)
        except _NoTextError:
            continue
    return dict(sorted(texts.items()))


def restore_links(config: ConfigDict, texts: Mapping[str, str]) -> None:
    """Makes keys follow others again.

    Args:
      config: changed in place; each key has the value that it will follow.
      texts: as `links` returns them. Those of keys that were removed are left out.

    Raises:
      ValueError: a key has another value than what it follows, or follows itself.
    """
    known = {key for key, *_ in fields(config)}
    needs = {key: _keys(text, known) for key, text in texts.items()}
    for key in graphlib.TopologicalSorter(needs).static_order():
        if key in texts and known.issuperset({key, *needs[key]}):
            _restore(config, key, texts[key], known)


def followers(config: ConfigDict, key: str) -> list[str]:
    """Returns the keys that have the same value as `key`, or are computed from it."""
    known = {name for name, *_ in fields(config)}
    graph: dict[str, set[str]] = {}
    for follower, text in links(config).items():
        for leader in _keys(text, known):
            graph.setdefault(leader, set()).add(follower)
            if text == leader:
                graph.setdefault(follower, set()).add(leader)
    reached, new = set(), [key]
    while new:
        reached.add(name := new.pop())
        new += graph.get(name, set()) - reached
    return sorted(reached - {key})


def _has_value(field: FieldReference) -> bool:
    return not is_unset(field) and field.get() is not None


def _end(reference: FieldReference) -> FieldReference:
    """Returns the reference that holds the value or the arithmetic."""
    while not reference._ops and isinstance(reference._value, FieldReference):
        reference = reference._value
    return reference


def _rank(key: str) -> tuple[bool, int, str]:
    """Of keys with one value, the lowest is the one that others follow.

    That is the model's, which the data must fit, or else the outermost.
    """
    return not key.startswith("model."), key.count("."), key


def _arithmetic(end: FieldReference, leaders: Mapping[int, str]) -> str:
    text = _operand(end._value, leaders)
    for op in end._ops:
        function, others = op.fn, [_operand(arg, leaders) for arg in op.args]
        if getattr(function, "__qualname__", "") == _COPY:
            text = f"({text})"
        elif function in _SYMBOLS and len(others) == 1:
            text = f"({text} {_SYMBOLS[function]} {others[0]})"
        elif isinstance(function, functools.partial) and function.func in _SYMBOLS:
            first = _operand(function.args[0], leaders)  # as in `10 * reference`
            text = f"({first} {_SYMBOLS[function.func]} {text})"
        else:
            raise _NoTextError
    return text


def _operand(value: Any, leaders: Mapping[int, str]) -> str:
    if not isinstance(value, FieldReference):
        return repr(value)
    end = _end(value)
    if id(end) in leaders:
        key = leaders[id(end)]
        if all(word.isidentifier() for word in key.split(".")):
            return key
    if end._ops:
        return _arithmetic(end, leaders)
    raise _NoTextError


def _keys(text: str, known: set[str]) -> set[str]:
    """Returns the keys that a text names."""
    if text in known:
        return {text}
    names = {
        ast.unparse(node)
        for node in ast.walk(_parse(text))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    longest = {n for n in names if not any(m.startswith(f"{n}.") for m in names)}
    return (names & known) | (longest - known)


def _restore(config: ConfigDict, key: str, text: str, known: set[str]) -> None:
    group, name = _place(config, key)
    reference = _evaluate(config, _parse(text)) if text not in known else None
    if reference is None:
        above, leader = _place(config, text)
        reference = above.get_ref(leader)
    elif text.strip("()") in known:  # not arithmetic, but one direction alone
        reference = reference.identity()
    if not isinstance(reference, FieldReference) or group[name] != reference.get():
        raise ValueError(
            f"{key} is {group[name]!r}, but it follows {text}: give both the same "
            "value, or remove its link"
        )
    del group[name]
    group[name] = reference


def _evaluate(config: ConfigDict, node: ast.AST) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluate(config, node.left), _evaluate(config, node.right)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Attribute | ast.Name):
        group, name = _place(config, ast.unparse(node))
        return group.get_ref(name)
    return ast.literal_eval(node)


def _place(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    group, _, name = key.rpartition(".")
    return (config[group] if group else config), name


def _parse(text: str) -> ast.AST:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ValueError(f"links have {text!r}: give a key, or arithmetic") from None
