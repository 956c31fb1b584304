"""The segments of a turn, and its record."""

import re
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.edge
from shared.protocol.turn_record import SEGMENTS, BadRecord, TurnRecord, segments

PREPARED = {
    "paused": 160.0, "transcript": 240.0, "first_token": 300.0, "first_sentence": 320.0, "voice": 350.0,
    "endpoint": 500.0, "first_audio": 503.0,
}  # fmt: skip

RECORD = TurnRecord("session", 3, 1_000_000, "stream", "cascade", "completed", 1, 900, 1000, "", True, PREPARED)

marks = st.dictionaries(
    st.sampled_from(
        [
            "paused",
            "sounded",
            "transcript",
            "asked",
            "first_token",
            "first_sentence",
            "voice",
            "endpoint",
            "first_audio",
            "played",
        ]
    ),
    st.floats(-1000, 60_000),
)


def lengths(found: dict[str, float]) -> dict[str, float]:
    return {part.name: round(1000 * part.seconds) for part in segments(found)}


def test_work_prepared_at_a_pause_begins_at_the_pause() -> None:
    parts = {
        "endpoint": 500,
        "transcript": 80,
        "first_token": 60,
        "first_sentence": 20,
        "first_audio": 30,
        "release": 3,
    }
    assert lengths(PREPARED) == parts
    played = {**PREPARED, "played": 540.0}
    assert lengths(played) == {**parts, "played": 37}
    assert list(lengths(played)) == list(SEGMENTS)


def test_other_work_begins_at_the_endpoint() -> None:
    late = {"endpoint": 500.0, "transcript": 700.0, "first_token": 900.0, "voice": 1000.0, "first_audio": 1001.0}
    assert lengths(late) == {"endpoint": 500, "transcript": 200, "first_token": 200, "first_audio": 100, "release": 1}
    assert [part.stage for part in segments(late) if part.name == "first_audio"] == ["llm"]  # the chat model spoke


def test_a_turn_answered_from_audio_has_no_transcript_segment() -> None:
    omni = {
        "paused": 160.0, "sounded": 162.0, "transcript": 400.0, "first_token": 300.0, "voice": 290.0,
        "endpoint": 500.0, "first_audio": 503.0,
    }  # fmt: skip
    assert lengths(omni) == {"endpoint": 500, "first_token": 138, "first_audio": 0, "release": 3}
    early = {**omni, "transcript": 250.0}
    assert lengths(early) == lengths(omni)
    wordless = {name: ms for name, ms in omni.items() if name not in ("transcript", "first_token")}
    assert lengths(wordless) == {"endpoint": 500, "first_audio": 128, "release": 3}


def test_a_redone_reply_begins_at_its_request() -> None:
    again = {
        **PREPARED,
        "asked": 505.0,
        "first_token": 565.0,
        "first_sentence": 580.0,
        "voice": 600.0,
        "first_audio": 601.0,
    }
    assert lengths(again)["first_token"] == 60


def test_a_typed_turn_has_no_endpoint_and_no_transcript() -> None:
    typed = {
        "endpoint": 2.0,
        "transcript": 2.0,
        "first_token": 62.0,
        "first_sentence": 70.0,
        "voice": 90.0,
        "first_audio": 91.0,
    }
    parts = segments(typed, spoken=False)
    assert [part.name for part in parts] == ["first_token", "first_sentence", "first_audio", "release"]
    assert (parts[0].begin_ms, parts[0].end_ms) == (0.0, 62.0)


def test_the_page_has_the_same_segments_in_the_same_order() -> None:
    script = (Path(services.edge.__file__).parent / "web" / "waterfall.js").read_text()
    rows = re.findall(r'\["(\w+)", "([^"]*)", "([^"]*)"\]', script)
    assert rows == [(name, kind.label, kind.about) for name, kind in SEGMENTS.items()]


@given(marks)
def test_segments_are_unique_and_never_negative(found: dict[str, float]) -> None:
    parts = segments(found)
    assert all(part.seconds >= 0 and part.stage in (SEGMENTS[part.name].stage, "llm") for part in parts)
    assert len({part.name for part in parts}) == len(parts)


def test_a_record_round_trips() -> None:
    assert TurnRecord.unpack(RECORD.pack()) == RECORD
    assert TurnRecord.unpack(replace(RECORD, marks={}).pack()).marks == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        RECORD.pack()[:-4],
        RECORD.pack() + b"\x00",
        msgpack.packb("no list"),
        msgpack.packb([]),
        msgpack.packb([1, *([0] * 11)]),
        msgpack.packb(["s", "3", 1, "", "", "", 1, 1, 1, "", True, {}]),
        msgpack.packb(["s", 3, 1, "", "", "", 1, 1, 1, "", True, {"endpoint": "late"}]),
        msgpack.packb(["s", 3, 1, "", "", "", 1, 1, 1, "", True, [1]]),
    ],
)
def test_invalid_records_are_rejected(data: bytes) -> None:
    with pytest.raises(BadRecord):
        TurnRecord.unpack(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_record_or_rejected(data: bytes) -> None:
    try:
        TurnRecord.unpack(data)
    except BadRecord:
        pass
