"""Read what the header of a GGUF file says about its model, without loading the model.

The format: a header of key-value pairs, then the shapes and places of the tensors, then their data; all little-endian.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LONGEST = 1 << 26
"""Limit for the length of a string and of an array. A damaged header may claim any length."""

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_CONTROL, _USER_DEFINED = 3, 4
"""Kinds of tokens: those that control the model, and others that are not found by splitting words, such as <think>."""

DEFAULT_WINDOW = 4096
"""Tokens, for a file that does not give the length for which its model was trained."""


class BadGguf(ValueError):
    """The file is not a GGUF file, or is damaged. The message says what is wrong, without the file's name."""


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A token that must not be made from a person's text. Its fields are those of a transformers tokenizer."""

    content: str
    special: bool
    """Whether it is never part of a reply's text."""


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A model as its file describes it."""

    architecture: str
    window: int
    """Tokens of prompt and reply for which the model was trained."""
    cache_bytes: int
    """Size of the KV cache per token, with 16-bit numbers. An upper limit: some architectures need less."""
    chat_template: str
    """A Jinja template; empty if the file has none."""
    controls: dict[int, ControlToken]


def read_gguf(path: Path) -> GgufModel:
    """Read the header of a file.

    Raises:
        BadGguf: the file is not a GGUF file, its header is damaged, or the data of its last tensors is missing.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise BadGguf("it is not a GGUF file")
        try:
            version, tensors, pairs = _unpack(file, "<IQQ")
            if version not in VERSIONS:
                raise BadGguf(f"its version of the GGUF format is {version}, and not 2 or 3")
            values = {_string(file): _value(file, _unpack(file, "<I")[0]) for _ in range(pairs)}
            last = max((_tensor_offset(file) for _ in range(tensors)), default=0)
            begin = file.tell()
        except (EOFError, KeyError, MemoryError) as error:
            raise BadGguf("its header is damaged, or the file is incomplete") from error
        size = file.seek(0, 2)
    if begin + last >= size:
        raise BadGguf(f"it is incomplete: it has {size} bytes, and its last tensor begins after byte {begin + last}")
    return _described(values)


def _described(values: dict[str, Any]) -> GgufModel:
    architecture = str(values.get("general.architecture", ""))

    def number(name: str, default: int) -> int:
        found = values.get(f"{architecture}.{name}", default)
        return max(found) if isinstance(found, list) else int(found)

    layers, heads = number("block_count", 0), max(1, number("attention.head_count", 1))
    head = number("embedding_length", 0) // heads
    sizes = number("attention.key_length", head) + number("attention.value_length", head)
    tokens, kinds = values.get("tokenizer.ggml.tokens", []), values.get("tokenizer.ggml.token_type", [])
    return GgufModel(
        architecture=architecture,
        window=number("context_length", DEFAULT_WINDOW),
        cache_bytes=2 * layers * number("attention.head_count_kv", heads) * sizes,
        chat_template=str(values.get("tokenizer.chat_template", "")),
        controls={
            place: ControlToken(token, special=kind == _CONTROL)
            for place, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind in (_CONTROL, _USER_DEFINED)
        },
    )


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    size = struct.calcsize(layout)
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return struct.unpack(layout, data)


def _length(file: BinaryIO) -> int:
    (length,) = _unpack(file, "<Q")
    if length > LONGEST:
        raise EOFError
    return int(length)


def _string(file: BinaryIO) -> str:
    length = _length(file)
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data.decode(errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _unpack(file, f"<{_NUMBERS[kind]}")[0]
    (item_kind,) = _unpack(file, "<I")
    length = _length(file)
    if item_kind in _NUMBERS:
        return list(_unpack(file, f"<{length}{_NUMBERS[item_kind]}"))
    read: Callable[[], Any] = (lambda: _string(file)) if item_kind == _STRING else (lambda: _value(file, item_kind))
    return [read() for _ in range(length)]


def _tensor_offset(file: BinaryIO) -> int:
    """Skip the description of a tensor, and return where its data begins, in bytes after all descriptions."""
    _string(file)
    (dimensions,) = _unpack(file, "<I")
    if dimensions > 8:
        raise EOFError
    *_, offset = _unpack(file, f"<{dimensions}QIQ")
    return int(offset)
