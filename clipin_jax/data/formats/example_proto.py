"""Reads and writes `tf.train.Example` without TensorFlow.

In protobuf's wire format a message is a sequence of fields. A field is a tag (number
and wire type) and a value: a varint, four or eight bytes, or a length and that many
bytes.

    Example {Features features = 1}
    Features {map<string, Feature> feature = 1}
    Feature {oneof {BytesList = 1, FloatList = 2, Int64List = 3}}
    each list {repeated value = 1}, numbers packed in one field or one field each
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from clipin_jax.data.source import BadRecord

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_SIZES = {_EIGHT: 8, _FOUR: 4}
_LONGEST_VARINT = 10

Value = bytes | str | int | Sequence[bytes] | Sequence[str] | Sequence[int]


def encode_example(values: Mapping[str, Value]) -> bytes:
    """Returns a serialized `tf.train.Example`: the same bytes for the same values.

    A list of numbers is written one by one, a single number as a packed list, as
    TensorFlow does. Readers of protobuf treat both equally, but `parse_example` uses
    this to tell a list of one number from a number.

    Raises:
      TypeError: a value of another type.
    """
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(name, values[name])))
        for name in sorted(values)
    )
    return _field(1, b"".join(entries))


def parse_example(data: bytes, names: Collection[str] | None) -> dict[str, Any]:
    """Returns features of an example.

    Args:
      data: a serialized `tf.train.Example`.
      names: of the features to return, if present; None for all.

    Returns:
      name -> list of bytes, list of float, int, or list of int; a packed list of one
      number is an int.

    Raises:
      BadRecord: the data is no such message.
    """
    keys = None if names is None else {name.encode() for name in names}
    values = {}
    for features in _messages(memoryview(data), 1):
        for entry in _messages(features, 1):
            key, value = b"", memoryview(b"")
            for number, kind, content in _fields(entry):
                if kind == _BYTES and number == 1:
                    key = bytes(content)
                elif kind == _BYTES and number == 2:
                    value = content
            if keys is None or key in keys:
                values[key.decode(errors="replace")] = _parse_feature(value)
    return values


def _feature(name: str, value: Value) -> bytes:
    if isinstance(value, int):
        return _field(3, _field(1, _varint(value)))
    items = [value] if isinstance(value, bytes | str) else list(value)
    if all(isinstance(item, int) for item in items):
        return _field(3, b"".join(b"\x08" + _varint(int(item)) for item in items))
    return _field(1, b"".join(_field(1, _as_bytes(name, item)) for item in items))


def _as_bytes(name: str, item: Any) -> bytes:
    if not isinstance(item, bytes | str):
        raise TypeError(f"{name}: a feature is bytes, text or int, or a list of them")
    return item.encode() if isinstance(item, str) else item


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative ones as two's complement
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _parse_feature(data: memoryview) -> Any:
    value = []
    for number, kind, content in _fields(data):
        if kind == _BYTES and number == 1:
            value = [bytes(item) for item in _messages(content, 1)]
        elif kind == _BYTES and number == 2:
            value = _floats(content)
        elif kind == _BYTES and number == 3:
            value = _integers(content)
    return value


def _floats(data: memoryview) -> list[float]:
    values = []
    for number, kind, content in _fields(data):
        if number == 1 and kind in (_BYTES, _FOUR):
            if len(content) % 4:
                raise BadRecord("damaged example: half a number")
            values += [value for (value,) in struct.iter_unpack("<f", content)]
    return values


def _integers(data: memoryview) -> int | list[int]:
    values, packed = [], False
    for number, kind, content in _fields(data):
        if number == 1 and kind == _VARINT:
            values.append(_signed(content))
        elif number == 1 and kind == _BYTES:
            packed, at = True, 0
            while at < len(content):
                value, at = _read_varint(content, at)
                values.append(_signed(value))
    return values[0] if packed and len(values) == 1 else values


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _messages(data: memoryview, field: int) -> Iterator[memoryview]:
    """Yields the contents of all fields of one number."""
    for number, kind, content in _fields(data):
        if number == field and kind == _BYTES:
            yield content


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yields (number, wire type, content) of each field."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            content, at = _read_varint(data, at)
            yield number, kind, content
            continue
        size = _SIZES.get(kind)
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        if size is None or not number:
            raise BadRecord("damaged example: no such field")
        if size > len(data) - at:
            raise BadRecord("damaged example: truncated")
        yield number, kind, data[at : at + size]
        at += size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Returns a number, and the offset after it."""
    value = 0
    for n in range(_LONGEST_VARINT):
        if at + n >= len(data):
            raise BadRecord("damaged example: truncated")
        byte = data[at + n]
        value |= (byte & 127) << 7 * n
        if byte < 128:
            return value & (1 << 64) - 1, at + n + 1
    raise BadRecord("damaged example: a number of too many bytes")
