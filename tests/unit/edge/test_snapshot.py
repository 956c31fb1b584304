"""The monitor's snapshot for no, one and many workers and turns, for reports of other versions; and its masked event log."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.slo import TURN_LATENCY_S
from services.edge.http.monitor.event_log import frame_fields, log_rows
from services.edge.http.monitor.snapshot import (
    LATEST,
    P95_TURNS,
    SESSIONS,
    SLOW_MS,
    SLOWEST,
    latency,
    snapshot,
    turn_row,
)
from shared.bus.leases import StageStatus
from shared.bus.status import BrokerStatus, StreamStatus
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions, SessionSettings, ToolCall, Word
from shared.protocol.turn_record import SEGMENTS, TurnRecord
from shared.settings import STAGES

SPOKEN = {"paused": 160.0, "endpoint": 500.0, "transcript": 230.0, "asked": 232.0, "first_token": 350.0,
          "first_sentence": 360.0, "voice": 420.0, "first_audio": 504.0}  # fmt: skip
GPU = {"index": "0", "name": "H", "utilization": 0.5, "memory_used": 60, "memory_total": 80, "memory_process": 20,
       "power_w": 300.0, "temperature_c": 50.0}  # fmt: skip
BROKER = BrokerStatus("redis 7.2.0", 10, 100, 3, 40, 5, (StreamStatus("jobs:vad", 0, 0),))


def record(turn: int = 1, marks: dict[str, float] | None = None, **changes: Any) -> TurnRecord:
    values: dict[str, Any] = {
        "session": "s", "turn": turn, "at_ms": 1_700_000_000_000 + turn, "protocol": "stream", "route": "cascade",
        "outcome": "completed", "revision": 0, "heard_ms": 900, "reply_ms": 1000, "trace": "",
        "marks": SPOKEN if marks is None else marks,
    }  # fmt: skip
    return TurnRecord(**{"spoken": True, **values, **changes})


def shown(**changes: Any) -> dict[str, Any]:
    """A snapshot after its way through JSON."""
    values: dict[str, Any] = {
        "now_ms": 1, "statuses": {}, "broker": None, "turns": (), "sessions": (), "refusal": None,
        "queue_age_limit_ms": 2000,
    }  # fmt: skip
    values |= changes
    values["turns"] = [turn_row(entry_id, one) for entry_id, one in values["turns"]]
    text = json.dumps(snapshot(**values), allow_nan=False)
    found: dict[str, Any] = json.loads(text)
    return found


def stage(data: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in data["stages"] if one["stage"] == name)
    return found


def worker(consumer: str, **load: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    return {"consumer": consumer, "engine": "e"}, {consumer: load}


def status(*workers: tuple[dict[str, Any], dict[str, dict[str, Any]]], age_ms: int = 0) -> StageStatus:
    loads = {name: load for _, one in workers for name, load in one.items()}
    return StageStatus(tuple(info for info, _ in workers), age_ms, 0, loads)


def test_a_snapshot_without_data() -> None:
    data = shown(refusal="the broker is not reachable")
    assert [one["state"] for one in data["stages"]] == ["unknown"] * len(STAGES)
    assert (data["broker"], data["gpus"], data["turns"], data["slow_turns"]) == (None, [], [], [])
    assert data["latency"]["total"] == {"n": 0, "p50_ms": None, "p95_ms": None, "max_ms": None}
    assert [part["name"] for part in data["latency"]["segments"]] == list(SEGMENTS)
    assert data["refusal"] == "the broker is not reachable"


def test_the_states_of_stages_and_the_free_slots_of_workers() -> None:
    two = status(worker("asr:a:1:x", slots=4, in_hand=3, loop_lag_ms=2.5), worker("asr:b:2:y", slots=4, in_hand=5))
    data = shown(
        statuses={
            "vad": status(),
            "asr": two,
            "llm": status(worker("llm:a:3:x", slots=1, in_hand=1)),
            "tts": status(worker("tts:a:4:x", slots=9, in_hand=0), age_ms=2001),
        },
        broker=BROKER,
    )
    assert [one["state"] for one in data["stages"]] == ["missing", "ready", "full", "behind"]
    asr = stage(data, "asr")
    assert (asr["slots"], asr["free"], asr["engine"]) == (8, 1, "e")
    assert [(one["worker"], one["free"], one["loop_lag_ms"]) for one in asr["workers"]] == [
        ("a:1", 1, 2.5),
        ("b:2", 0, None),  # more work in hand than slots: no slot is free
    ]
    assert data["broker"]["streams"] == [{"name": "jobs:vad", "length": 0, "lag": 0, "oldest_pending_s": 0.0}]


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"slots": None, "in_hand": "3", "gpus": {}},
        {"slots": True, "in_hand": math.inf, "loop_lag_ms": math.nan, "gpus": [None, 3]},
    ],
)
def test_a_worker_without_a_valid_load_report(load: dict[str, Any]) -> None:
    data = shown(statuses={"asr": status(({"consumer": "odd"}, {"odd": load}))})
    asr = stage(data, "asr")
    assert (asr["state"], asr["slots"], asr["free"]) == ("ready", 0, 0)
    assert asr["workers"][0] == {
        "worker": "odd", "engine": "", "slots": None, "in_hand": None, "free": None, "loop_lag_ms": None,
    }  # fmt: skip
    assert data["gpus"] == []


def test_a_gpu_that_several_workers_use_is_shown_once() -> None:
    data = shown(
        statuses={
            "asr": status(worker("asr:a:1:x", gpus=[GPU])),
            "tts": status(worker("tts:a:2:x", gpus=[{**GPU, "memory_process": 5}]), worker("tts:b:3:x", gpus=[GPU])),
        }
    )
    assert [(one["host"], one["index"]) for one in data["gpus"]] == [("a", "0"), ("b", "0")]
    assert [(one["stage"], one["memory"]) for one in data["gpus"][0]["workers"]] == [("asr", 20), ("tts", 5)]
    assert data["gpus"][0]["memory_used"] == 60  # of the card, not the sum over workers


def test_percentiles_of_each_part_and_of_the_total() -> None:
    turns = [(f"{n}-0", record(n, {**SPOKEN, "first_audio": 504.0 + 100 * n})) for n in range(21)]
    data = shown(turns=turns)
    assert data["latency"]["total"] == {"n": 21, "p50_ms": 1504.0, "p95_ms": 2404.0, "max_ms": 2504.0}
    parts = {part["name"]: part for part in data["latency"]["segments"]}
    assert (parts["endpoint"]["p50_ms"], parts["transcript"]["p95_ms"]) == (500.0, 70.0)
    assert parts["release"]["p50_ms"] == 1004.0  # from the endpoint on: the voice was ready before it
    sentence = {"name": "first_sentence", "stage": "llm", "n": 21, "p50_ms": 10, "p95_ms": 10, "max_ms": 10}
    assert parts["first_sentence"] == sentence
    assert (data["latency"]["turns"], data["latency"]["slow"]) == (21, 18)
    few = shown(turns=turns[: P95_TURNS - 1])["latency"]["total"]
    assert (few["p95_ms"], few["max_ms"]) == (None, 504.0 + 100 * (P95_TURNS - 2))


def test_the_newest_turns_come_first_and_no_slow_turn_is_listed_twice() -> None:
    late = {**SPOKEN, "first_audio": 3000.0}
    turns = [(f"{n}-0", record(n, late if n == 1 else None)) for n in range(LATEST + 9)]
    data = shown(turns=turns)
    assert [row["turn"] for row in data["turns"]] == list(range(LATEST + 8, 8, -1))
    assert [row["turn"] for row in data["slow_turns"]] == [1]  # no longer among the latest
    count = LATEST + SLOWEST + 5
    slow = shown(turns=[(f"{n}-0", record(n, {"first_audio": 900.0 + n})) for n in range(count)])["slow_turns"]
    assert [row["turn"] for row in slow] == list(range(SLOWEST + 4, 4, -1))  # the others are among the latest


def test_the_threshold_of_a_slow_turn_is_that_of_the_slo() -> None:
    assert SLOW_MS == TURN_LATENCY_S * 1000
    assert not turn_row("1-0", record(marks={"first_audio": SLOW_MS}))["slow"]
    assert turn_row("1-0", record(marks={"first_audio": SLOW_MS + 0.1}))["slow"]


def test_turns_without_audio_are_listed_but_not_in_the_figures() -> None:
    data = shown(turns=[("1-0", record(marks={"endpoint": 500.0}, outcome="failed")), ("2-0", record(marks={}))])
    assert [row["first_audio_ms"] for row in data["turns"]] == [None, None]
    assert (data["latency"]["failed"], data["latency"]["total"]["n"]) == (1, 0)


def test_the_newest_conversations_are_listed_and_all_are_counted() -> None:
    stats = {"turn": 2, "turns": 1, "interrupted": 0, "stale": 0, "dropped_samples": 0}
    many = [("twilio", {"session_id": str(n), "seconds": float(n), **stats}) for n in range(SESSIONS + 5)]
    data = shown(sessions=reversed(many))
    assert data["sessions"]["count"] == SESSIONS + 5
    assert [one["id"] for one in data["sessions"]["newest"]] == [str(n) for n in range(SESSIONS)]
    assert data["sessions"]["newest"][0]["protocol"] == "twilio"


@given(st.lists(st.dictionaries(st.sampled_from([*SPOKEN, "played", "?"]), st.floats() | st.integers(-(2**63), 2**64))))
def test_any_marks_give_valid_json_and_no_negative_duration(many: list[dict[str, float]]) -> None:
    data = shown(turns=[(f"{n}-0", record(n, marks)) for n, marks in enumerate(many)])
    assert data["latency"]["turns"] == len(many)
    for part in (data["latency"]["total"], *data["latency"]["segments"]):
        assert (part["n"] == 0) == (part["p50_ms"] is None)
        assert part["n"] == 0 or part["p50_ms"] <= part["max_ms"]
    assert all(part["p50_ms"] is None or part["p50_ms"] >= 0 for part in data["latency"]["segments"])


# -- the event log ----------------------------------------------------------------------------------

SECRET = "something that was said"
SETTINGS = SessionSettings(instructions=SECRET, greeting=SECRET, hints=SECRET, goodbye=SECRET)
OPTIONS = ReplyOptions(instructions=SECRET, say=SECRET)
WITH_SECRETS = (
    fr.SessionStarted("s", SETTINGS),
    fr.SettingsChanged(SETTINGS),
    fr.TextTyped(SECRET, OPTIONS),
    fr.SpeechStarted("s", 1, 0, 0, 16_000, "0-0", "en", True, SECRET),
    fr.TurnCommitted(1, 0, 0, 8000, 16_000, 5, OPTIONS),
    fr.TranscriptPartial(1, 0, SECRET),
    fr.TranscriptFinal("s", 1, 2, SECRET, OPTIONS),
    fr.TurnAudioReady("s", 1, 0, "0-0", 0, 16_000, OPTIONS),
    fr.ReplyDelta(1, 0, 3, SECRET),
    fr.ReplySentence("s", 1, 0, 0, SECRET, "ann", 1.0, "en"),
    fr.ToolCalled(1, 0, ToolCall("c", "weather", json.dumps({"said": SECRET}))),
    fr.ReplyDone(1, 0, SECRET, 1),
    fr.VoiceChunk(1, 0, 0, 0, 24_000, SECRET.encode() * 100, (Word(SECRET, 0, 10),)),
    fr.History(()),
    fr.MessageReceived(1, SECRET),
)


def entry(*frames: fr.Frame) -> list[bytes]:
    return [b"f", fr.codec.entry([fr.codec.encode(frame) for frame in frames])]


@pytest.mark.parametrize("frame", WITH_SECRETS, ids=lambda frame: type(frame).__name__)
def test_texts_are_masked(frame: fr.Frame) -> None:
    (row,) = log_rows(b"1700000000000-1", entry(frame), content=False)
    assert SECRET not in json.dumps(row)
    assert (row["type"], row["at_ms"]) == (type(frame).__name__, 1_700_000_000_000)


def test_every_frame_with_a_text_is_tested() -> None:
    """A new text is masked by default; this test asks for a case in WITH_SECRETS."""
    harmless = {
        fr.SessionEnded, fr.SessionResumed, fr.TurnDiscarded, fr.TurnInterrupted, fr.StageFailed, fr.EventSent, fr.ResumePoint,
    }  # fmt: skip
    with_text = {
        kind for kind in fr.FRAMES for field in fields(kind)  # type: ignore[arg-type]
        if field.type in (str, "str") and field.name not in ("session", "cursor")
    }  # fmt: skip
    assert with_text - harmless <= {type(frame) for frame in WITH_SECRETS}


def test_texts_are_shown_if_content_may_be_logged() -> None:
    rows = log_rows(b"5-0", [*entry(*WITH_SECRETS[5:7]), b"n", b"3"], content=True)
    assert [row["fields"]["text"] for row in rows] == [SECRET, SECRET]
    assert [(row["turn"], row["revision"], row["fence"], row["number"]) for row in rows] == [(1, 0, 3, 0), (1, 2, 3, 1)]


def test_lengths_and_offsets_have_units() -> None:
    assert frame_fields(WITH_SECRETS[4], content=False) == {"start": "0.00 s", "end": "0.50 s", "decided_at": "1.00 s"}
    chunk = frame_fields(WITH_SECRETS[12], content=False)
    assert chunk["length"] == f"{len(SECRET) * 100 // 2 / 24_000:.2f} s"
    assert frame_fields(fr.VoiceChunk(1, 0, 0, 0, 0, b"", ()), content=False)["length"] == "0 samples"
    played = {"heard": "0.50 s", "total": "1.00 s"}
    assert frame_fields(fr.PlayedOut(1, 0, 12_000, 24_000, 24_000), content=False) == played
    assert frame_fields(WITH_SECRETS[10], content=False) == {"call": "weather"}
    traced = fr.TranscriptFinal("s", 1, 0, "hi", OPTIONS, trace="00-a-b-01")
    assert frame_fields(traced, content=False) == {"text": "2 characters", "trace": "00-a-b-01"}


@pytest.mark.parametrize(
    "values", [[], [b"f"], [b"f", b"\xff"], [b"f", b""], [b"x", b"y"], [b"f", entry()[1], b"n", b"x"]]
)
def test_an_unreadable_entry_is_marked(values: list[bytes]) -> None:
    (row,) = log_rows(b"1-0", values, content=False)
    assert row["type"] == "unreadable"
    assert row["fields"]["reason"]


def test_a_typed_turn_is_listed_but_not_in_the_latency() -> None:
    late = {"endpoint": 10.0, "first_audio": 5000.0}
    row = turn_row("1-0", record(marks=late, spoken=False))
    figures = latency([row])
    assert figures["turns"] == 1
    assert figures["total"]["n"] == figures["slow"] == 0
    assert not row["slow"]
    assert row["first_audio_ms"] == 5000.0
