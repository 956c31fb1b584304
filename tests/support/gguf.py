"""Write GGUF files: a header of given values, and as many tensors as a test needs."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_gguf(path: Path, values: Mapping[str, Any], tensors: int = 1, version: int = 3) -> Path:
    """Write a file in which each tensor has 32 bytes. Values are texts, whole numbers, or lists of either."""
    header = b"GGUF" + struct.pack("<IQQ", version, tensors, len(values))
    for name, value in values.items():
        kind, data = _encoded(value)
        header += _text(name) + struct.pack("<I", kind) + data
    for number in range(tensors):
        header += _text(f"tensor.{number}") + struct.pack("<IQIQ", 1, 8, 0, 32 * number)
    path.write_bytes(header + bytes(32 * tensors + 32))
    return path


def _encoded(value: Any) -> tuple[int, bytes]:
    if isinstance(value, str):
        return 8, _text(value)
    if isinstance(value, list):
        items = [_encoded(item) for item in value]
        return 9, struct.pack("<IQ", items[0][0], len(items)) + b"".join(data for _, data in items)
    return 4, struct.pack("<I", value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
