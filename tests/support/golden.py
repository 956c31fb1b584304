"""The wire format of each release, as bytes: `python -m tests.support.golden` records that of this code.

tests/unit/shared/golden has a file for each release, `1.json` and so on, which never changes again, and `unreleased.json`
for the next one. Each file holds, by kind, a value with every field set, and its bytes.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from shared.audio.voices import VoiceInfo
from shared.protocol.frames import FRAMES, codec
from shared.protocol.turn_record import TurnRecord

FOLDER = Path(__file__).parent.parent / "unit/shared/golden"
UNRELEASED = FOLDER / "unreleased.json"

ENCODERS: dict[type[Any], Callable[[Any], bytes]] = {
    **dict.fromkeys(FRAMES, lambda frame: codec.entry([codec.encode(frame)])),
    TurnRecord: TurnRecord.pack,
    VoiceInfo: VoiceInfo.pack,
}
"""All that several processes read and write, and how it is encoded."""

DECODERS: dict[str, Callable[[bytes], Any]] = {
    **{cls.__name__: lambda body: codec.decode_entry(body)[0] for cls in FRAMES},
    "TurnRecord": TurnRecord.unpack,
    "VoiceInfo": VoiceInfo.unpack,
}


def sample(cls: type[Any]) -> Any:
    """Return a value of this dataclass in which every field differs from its default and from its neighbours."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return cls(*(_sample(hints[field.name], field.name, number) for number, field in enumerate(fields, 2)))


def _sample(hint: Any, name: str, number: int) -> Any:
    if dataclasses.is_dataclass(hint):
        return sample(hint)  # type: ignore[arg-type]  # a class, not a value
    origin = get_origin(hint)
    if origin is tuple:
        return (_sample(get_args(hint)[0], name, number),)
    if origin is dict:
        return {name: number + 0.5}
    if origin in (Union, UnionType):
        return _sample(next(arg for arg in get_args(hint) if arg is not NoneType), name, number)
    values = {
        bool: number % 2 == 0,
        int: 1000 + number,
        float: number + 0.5,
        str: f"{name} é",
        bytes: bytes((0, number, 255)),
    }
    return values[hint]


def plain(value: Any) -> Any:
    """Return a value as JSON types: dataclasses as objects, bytes in hex."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def record() -> dict[str, dict[str, Any]]:
    """Return the value and the bytes of every kind, as this code writes them."""
    values = {cls.__name__: (sample(cls), encode) for cls, encode in ENCODERS.items()}
    return {name: {"value": plain(value), "bytes": encode(value).hex()} for name, (value, encode) in values.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.golden", description=__doc__)
    parser.add_argument("--release", type=int, help="record the format for good, under this number")
    number = parser.parse_args().release
    path = UNRELEASED if number is None else FOLDER / f"{number}.json"
    if number is not None and path.exists():
        print(f"{path} exists: the format of a release does not change", file=sys.stderr)
        return 1
    path.write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
