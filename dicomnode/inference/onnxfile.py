"""A look into the bytes of an ONNX file without running it: whether it is one, and whole in itself.

Pure. A walk over protobuf's wire format along the few messages of onnx.proto3 that can hold a tensor, so that a tensor
kept in another file (``data_location = EXTERNAL``) is refused before any library follows its path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST: Final = 32

#: Message → field number → message, of onnx.proto3, as far as tensors and operator sets are concerned.
_CHILDREN: Final = {
    "model": {7: "graph", 8: "operators", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 9: "operators", 11: "attribute"},
    "operators": {},
    "tensor": {},
}
_STANDARD_DOMAINS: Final = frozenset({b"", b"ai.onnx"})


def problems(data: bytes) -> tuple[str, ...]:
    """Say what speaks against the bytes as a self-contained ONNX model of standard operators; empty: nothing."""
    try:
        found = dict.fromkeys(_walk("model", memoryview(data), 0))
    except (ValueError, IndexError):
        return ("this is no ONNX file",)
    if "graph" not in found or "operators" not in found:
        return ("this is no ONNX file",)
    return tuple(problem for problem in found if problem not in _CHILDREN)


def _walk(message: str, data: memoryview, depth: int) -> Iterator[str]:
    """Names of the messages met at the top, and every problem below."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    for number, kind, value in _fields(data):
        if message == "tensor" and (number == 13 or (number == 14 and value != 0)):
            yield "a tensor is kept outside the file"
        domain = bytes(value) if message == "operators" and number == 1 and isinstance(value, memoryview) else b""
        if domain not in _STANDARD_DOMAINS:
            yield "it uses operators that are not of the ONNX standard"
        child = _CHILDREN[message].get(number)
        if child is not None:
            if kind != _BYTES or not isinstance(value, memoryview):
                raise ValueError("a message was expected")
            if depth == 0:
                yield child
            yield from _walk(child, value, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Field number, wire type and value of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("field 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("wire type")
        if at + size > len(data):
            raise ValueError("cut short")
        yield number, kind, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
