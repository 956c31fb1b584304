"""Runs a service as another release would be: `python -m tests.support.other_release later|earlier SERVICE`.

- later: every frame, and every value inside it, has one more field at the end, and every entry has one more frame, of a
  kind that this release does not know.
- earlier: fields at the end that have their default are not written, as by a release that did not have them.
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack

from deploy.local.supervised import ServiceSpec
from shared.protocol import codec

UNKNOWN = msgpack.packb(["FactOfALaterRelease", 1, "two"])


def of_release(release: str) -> Callable[[ServiceSpec], ServiceSpec]:
    """Return a change of a service (`running_system`): it runs as that release."""
    return lambda spec: replace(spec, argv=(sys.executable, "-m", "tests.support.other_release", release, spec.name))


def behave(release: str) -> None:
    """Change the encoding of this process; before `shared.protocol.frames` is imported."""
    encode_fields, entry = codec._encode_fields, codec.FrameCodec.entry
    changed = {"later": _with_one_more, "earlier": _without_defaults}[release]
    codec._encode_fields = lambda cls: changed(cls, encode_fields(cls))
    if release == "later":
        codec.FrameCodec.entry = staticmethod(lambda packed: entry([*packed, UNKNOWN]))  # type: ignore[method-assign]


def _with_one_more(_: Any, encode: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: (*encode(value), "of a later release")


def _without_defaults(cls: Any, encode: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], tuple[Any, ...]]:
    fields = dataclasses.fields(cls)

    def shortened(value: Any) -> tuple[Any, ...]:
        encoded = encode(value)
        length = len(fields)
        while length and getattr(value, fields[length - 1].name) == fields[length - 1].default:
            length -= 1
        return encoded[:length]

    return shortened


if __name__ == "__main__":
    _, which, service = sys.argv
    behave(which)
    from importlib import import_module

    sys.exit(import_module(f"services.{service}.__main__").main())
