"""Encode frames as MessagePack and decode them, checked against the dataclasses' annotations.

The checks of each class are compiled once. Types are compared exactly (`type(v) is int`): a bool does not
pass as an int, nor a str as bytes. An int is accepted for a float. Nested dataclasses are arrays.

During an update, two releases share a broker. So fields at the end that this release does not know are ignored, and
so are frames with an unknown tag; fields that an older release did not write get their defaults.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

F = TypeVar("F")
Check = Callable[[Any], Any]
OnUnknown = Callable[[str], None]
"""Takes the tag of a frame that was ignored because this release does not know it."""

MAX_ENTRY_BYTES = 4 * 1024 * 1024
"""Larger entries are rejected without decoding; Parley writes far smaller ones."""


class BadFrame(ValueError):
    """Bytes that are not a valid frame. The message says what is wrong and never contains the content."""


class _Mismatch(Exception):
    pass


class FrameCodec(Generic[F]):
    """Encodes and decodes a closed union of frozen dataclasses, each tagged with its class name."""

    def __init__(self, classes: Sequence[type[F]]) -> None:
        self._pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
        self._encoders = {cls: _encoder(cls.__name__, cls) for cls in classes}
        self._decoders = {cls.__name__: _decoder(cls) for cls in classes}

    def encode(self, frame: F) -> bytes:
        """Return the frame as a MessagePack array `[tag, field, …]`."""
        packed: bytes = self._pack(self._encoders[type(frame)](frame))
        return packed

    @staticmethod
    def entry(packed: Sequence[bytes]) -> bytes:
        """Return the body of a stream entry: a MessagePack array of the encoded frames."""
        count = len(packed)
        if count < 16:
            return b"".join((bytes((0x90 | count,)), *packed))
        return b"".join((b"\xdc", count.to_bytes(2, "big"), *packed))

    def decode_entry(self, body: bytes, on_unknown: OnUnknown = lambda tag: None) -> list[F]:
        """Return the frames of a stream entry; none if it has only frames that this release does not know.

        Raises:
            BadFrame: the body is not MessagePack or not an array of frames, or a frame has too few fields, or a
                field of the wrong type.
        """
        if len(body) > MAX_ENTRY_BYTES:
            raise BadFrame(f"entry of {len(body)} bytes")
        try:
            items = msgpack.unpackb(body, raw=False, use_list=True, strict_map_key=True)
        except Exception as error:  # msgpack raises a dozen unrelated types on arbitrary bytes
            raise BadFrame(f"not MessagePack: {type(error).__name__}") from None
        if type(items) is not list or not items:
            raise BadFrame("not a non-empty array of frames")
        frames = []
        for item in items:
            if type(item) is not list or not item or type(item[0]) is not str:
                raise BadFrame("a frame is not an array that begins with its tag")
            if (decode := self._decoders.get(item[0])) is None:
                on_unknown(item[0][:40])
            else:
                frames.append(self._decode(decode, item))
        return frames

    def _decode(self, decode: Check, item: list[Any]) -> F:
        try:
            frame: F = decode(item[1:])
        except _Mismatch as error:
            raise BadFrame(f"{item[0]}: {error}") from None
        return frame


def _encoder(tag: str, cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    fields = _encode_fields(cls)
    return lambda frame: (tag, *fields(frame))


def _encode_fields(cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    names = [field.name for field in dataclasses.fields(cls)]
    hints = get_type_hints(cls)
    nested = [_encode_value(hints[name]) for name in names]
    if not names:
        return lambda frame: ()
    if len(names) == 1:
        only, getter = nested[0], attrgetter(names[0])
        return lambda frame: (only(getter(frame)) if only else getter(frame),)
    values: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
    if not any(nested):
        return values
    return lambda frame: tuple(
        convert(value) if convert else value for convert, value in zip(nested, values(frame), strict=True)
    )


def _encode_value(hint: Any) -> Callable[[Any], Any] | None:
    """Return the conversion of a value of this type for msgpack; None if msgpack packs it as it is."""
    if dataclasses.is_dataclass(hint):
        return _encode_fields(hint)
    if get_origin(hint) is tuple:
        inner = _encode_value(get_args(hint)[0])
        return None if inner is None else lambda values: [inner(value) for value in values]
    return None


def _decoder(cls: Any) -> Check:
    fields = dataclasses.fields(cls)
    hints = get_type_hints(cls)
    checks = tuple((field.name, _check(hints[field.name])) for field in fields)
    minimum = sum(
        field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING for field in fields
    )

    def decode(values: list[Any]) -> Any:
        if len(values) < minimum:
            raise _Mismatch(f"{len(values)} fields, expected at least {minimum}")
        del values[len(checks) :]  # fields of a later release
        for position, value in enumerate(values):
            name, check = checks[position]
            try:
                values[position] = check(value)
            except _Mismatch as error:
                raise _Mismatch(f"{name}: {error}") from None
        return cls(*values)

    return decode


def _check(hint: Any) -> Check:
    if dataclasses.is_dataclass(hint):
        decode = _decoder(hint)

        def nested(value: Any) -> Any:
            if type(value) is not list:
                raise _Mismatch("array expected")
            return decode(value)

        return nested
    origin = get_origin(hint)
    if origin is tuple:
        inner = _check(get_args(hint)[0])

        def array(value: Any) -> tuple[Any, ...]:
            if type(value) is not list:
                raise _Mismatch("array expected")
            return tuple([inner(item) for item in value])

        return array
    if origin in (Union, UnionType):
        (inner_hint,) = (arg for arg in get_args(hint) if arg is not NoneType)
        check = _check(inner_hint)
        return lambda value: None if value is None else check(value)
    if hint is float:

        def number(value: Any) -> float:
            if type(value) is float:
                return value
            if type(value) is int:
                return float(value)
            raise _Mismatch(f"float expected, not {type(value).__name__}")

        return number

    def exact(value: Any) -> Any:
        if type(value) is not hint:
            raise _Mismatch(f"{hint.__name__} expected, not {type(value).__name__}")
        return value

    return exact
