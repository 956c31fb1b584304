"""Every frame type round-trips, and everything else is rejected."""

import dataclasses
import inspect
from typing import Any, get_type_hints

import msgpack
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol import frames as frames_module
from shared.protocol.codec import MAX_ENTRY_BYTES, BadFrame
from shared.protocol.frames import FRAMES, AudioChunk, Frame, InputCleared, SettingsChanged, TurnDiscarded, codec
from shared.protocol.session import SessionSettings

st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))  # the range of MessagePack
st.register_type_strategy(float, st.floats(allow_nan=False))  # NaN is not equal to itself
any_frame = st.one_of([st.from_type(cls) for cls in FRAMES])


def entry(*frames: Frame) -> bytes:
    return codec.entry([codec.encode(frame) for frame in frames])


def test_frames_lists_every_frame_of_the_module() -> None:
    declared = {
        cls
        for _, cls in inspect.getmembers(frames_module, inspect.isclass)
        if issubclass(cls, Frame) and cls is not Frame
    }
    assert declared == set(FRAMES)


@pytest.mark.parametrize("cls", FRAMES)
def test_each_type_is_frozen_slotted_and_documented(cls: type[Frame]) -> None:
    assert cls.__doc__
    assert "(" not in cls.__doc__.splitlines()[0][:20]  # not the signature that dataclasses generate
    assert "__slots__" in vars(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


@settings(max_examples=60)
@given(frames=st.lists(any_frame, min_size=1, max_size=40))
def test_round_trip(frames: list[Frame]) -> None:
    assert codec.decode_entry(entry(*frames)) == frames


@settings(max_examples=60)
@given(frame=any_frame)
def test_another_msgpack_library_decodes_tag_and_fields(frame: Frame) -> None:
    """An independent MessagePack implementation (in Rust) decodes the same values."""
    (read,) = ormsgpack.unpackb(entry(frame))
    assert read == [type(frame).__name__, *plain(dataclasses.astuple(frame))]  # type: ignore[call-overload]


def plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@settings(max_examples=60)
@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_a_bad_frame(body: bytes) -> None:
    try:
        codec.decode_entry(body)
    except BadFrame:
        return
    items = msgpack.unpackb(body)
    assert all(type(item[0]) is str for item in items)  # frames that this release does not know


wire_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(frame=any_frame, where=st.integers(0, 50), value=wire_values)
def test_a_field_of_the_wrong_type_is_a_bad_frame(frame: Frame, where: int, value: Any) -> None:
    fields = msgpack.unpackb(codec.encode(frame))
    if len(fields) == 1:
        return
    fields[1 + where % (len(fields) - 1)] = value
    try:
        (read,) = codec.decode_entry(msgpack.packb([fields]))
    except BadFrame:
        return
    for name, hint in get_type_hints(type(read)).items():
        if isinstance(hint, type) and not dataclasses.is_dataclass(hint):
            assert type(getattr(read, name)) is hint


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "non-empty"),
        ({}, "non-empty"),
        ([[]], "that begins with its tag"),
        ([["AudioChunk", 1]], "1 fields, expected at least 2"),
        ([["AudioChunk", True, b""]], "offset: int expected, not bool"),
        ([["AudioChunk", 1, "text"]], "pcm: bytes expected, not str"),
        ([["AudioChunk", 1, b""], 7], "that begins with its tag"),
    ],
)
def test_a_bad_frame_names_the_error(items: Any, said: str) -> None:
    with pytest.raises(BadFrame, match=said):
        codec.decode_entry(msgpack.packb(items))


def test_what_a_later_release_adds_is_ignored() -> None:
    later: list[Any] = [["NoSuch", 1], ["AudioChunk", 1, b"", 3], ["Frame"], ["SettingsChanged", [False, 0.25]]]
    unknown: list[str] = []
    assert codec.decode_entry(msgpack.packb(later), unknown.append) == [
        AudioChunk(1, b""),
        SettingsChanged(SessionSettings(False, 0.25)),
    ]
    assert unknown == ["NoSuch", "Frame"]
    assert codec.decode_entry(msgpack.packb([["NoSuch"]])) == []


def test_a_huge_entry_is_rejected_without_decoding() -> None:
    with pytest.raises(BadFrame, match="entry of"):
        codec.decode_entry(bytes(MAX_ENTRY_BYTES + 1))


def test_a_truncated_entry_is_a_bad_frame() -> None:
    whole = entry(AudioChunk(1, b"12345678"), TurnDiscarded(1, 0, "x"), InputCleared())
    for length in range(len(whole)):
        with pytest.raises(BadFrame):
            codec.decode_entry(whole[:length])


def test_the_settings_of_a_session_keep_their_order_on_the_wire() -> None:
    """Processes of two versions may share a broker during an update: fields are only added at the end."""
    fields = (
        "detect_turns", "threshold", "start_ms", "pause_ms", "endpoint_ms", "preroll_ms", "longest_ms", "create_reply",
        "interrupt_reply", "language", "voice", "speed", "instructions", "spoken", "adapt_endpoint", "complete_ms",
        "incomplete_ms", "speculations", "speculate_longest_ms", "interrupt_ms", "min_words", "echo_guard_ms", "greeting",
        "idle_ms", "idle_prompt", "idle_limit", "goodbye", "tools", "tool_choice", "hints", "route",
    )  # fmt: skip
    assert tuple(field.name for field in dataclasses.fields(SessionSettings))[: len(fields)] == fields
    assert msgpack.unpackb(codec.encode(SettingsChanged(SessionSettings())))[1][: len(fields)] == [
        True, 0.5, 100, 160, 500, 300, 60_000, True, True, "en", "", 1.0, "", True, True, 200, 2000, 3, 10_000, 0, 1, 0, "",
        0, "Are you still there?", 2, "", [], "auto", "", "cascade",
    ]  # fmt: skip
