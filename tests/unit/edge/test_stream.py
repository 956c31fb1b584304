"""The lean protocol: what a client may send and when, and what it receives."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.client import actions as act
from services.edge.client.actions import (
    Action,
    Audio,
    CancelReply,
    Clear,
    Commit,
    Configure,
    GetHistory,
    GetStats,
    HangUp,
    Played,
    RequestReply,
    Reset,
    Say,
    Send,
    SetHistory,
    Start,
    Stop,
)
from services.edge.client.events import (
    Event,
    Failed,
    IdlePassed,
    Interrupt,
    Pause,
    Ready,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    Resume,
    Said,
    SpeechBegan,
    SpeechEnded,
    Stats,
    Timing,
    Transcribed,
    TurnBegan,
    TurnDropped,
)
from services.edge.protocols.stream import MAX_HISTORY, TYPES, StreamCodec
from shared.protocol.session import Message, ReplyOptions, SessionSettings
from shared.protocol.turn_record import Segment

DEFAULTS = SessionSettings()


def say(codec: StreamCodec, kind: str, **fields: Any) -> Action:
    (action,) = codec.decode(json.dumps({"type": kind, **fields}))
    return action


def started(**config: Any) -> StreamCodec:
    codec = StreamCodec(16000, DEFAULTS)
    assert isinstance(say(codec, "start_streaming", config=config), Start)
    return codec


def error(action: Action) -> tuple[str, str]:
    """Code and message of an answer that is an error."""
    assert isinstance(action, Send), action
    (message,) = action.messages
    body = json.loads(message)
    assert body.pop("type") == "error"
    assert set(body) == {"code", "message"}
    return body["code"], body["message"]


def received(*events: Event) -> list[Any]:
    codec = StreamCodec(16000, DEFAULTS)
    messages = [message for event in events for message in codec.encode(event)]
    return [message if isinstance(message, bytes) else json.loads(message) for message in messages]


def test_a_session_starts_with_the_settings_that_were_sent() -> None:
    config: dict[str, Any] = {
        "endpoint_ms": 700,
        "pause_ms": 200,
        "start_ms": 80,
        "preroll_ms": 250,
        "longest_ms": 30_000,
        "threshold": 1,
        "speed": 1.5,
        "voice": "en-us",
        "language": "pt-BR",
        "hints": "Ada Lovelace, Boole",
        "may_record": True,
        "instructions": "Be brief.",
        "detect_turns": False,
        "adapt_endpoint": False,
        "complete_ms": 300,
        "incomplete_ms": 1500,
        "speculations": 1,
        "speculate_longest_ms": 5000,
        "create_reply": False,
        "interrupt_reply": False,
        "interrupt_ms": 300,
        "min_words": 2,
        "echo_guard_ms": 1000,
        "greeting": "Hello.",
        "goodbye": "Bye.",
        "idle_ms": 20_000,
        "idle_prompt": "Well?",
        "idle_limit": 1,
        "spoken": False,
        "route": "omni",
        "speak_failures": "always",
        "failure_text": "Oops.",
        "failure_limit": 2,
    }
    codec = StreamCodec(24000, DEFAULTS)
    assert (codec.rate_hz, codec.starts_with) == (24000, None)
    expected = replace(DEFAULTS, **config)
    assert say(codec, "start_streaming", config=config) == Start(expected)
    (ready,) = codec.encode(Ready("s1", expected))
    assert json.loads(ready) == {"type": "ready", "session_id": "s1", "config": config}
    # What the client reads there it can send again.
    assert say(StreamCodec(24000, DEFAULTS), "start_streaming", config=json.loads(ready)["config"]) == Start(expected)


def test_a_session_goes_on_with_other_settings() -> None:
    codec = started()
    assert say(codec, "configure", config={"language": "de"}) == Configure(replace(DEFAULTS, language="de"))
    assert say(codec, "configure", config={"speed": 2}) == Configure(replace(DEFAULTS, language="de", speed=2.0))
    assert error(say(codec, "configure", config={"speed": "fast", "language": "fr"}))[0] == "bad_field"
    assert say(codec, "configure") == Configure(replace(DEFAULTS, language="de", speed=2.0))
    assert error(say(codec, "configure", config="fast"))[0] == "bad_field"
    assert error(say(StreamCodec(16000, DEFAULTS), "configure", config={}))[0] == "not_started"


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("commit", Commit()),
        ("clear", Clear()),
        ("cancel", CancelReply()),
        ("get_history", GetHistory()),
        ("hang_up", HangUp()),
    ],
)
def test_what_needs_no_fields(kind: str, action: Action) -> None:
    assert say(started(), kind) == action
    assert error(say(StreamCodec(16000, DEFAULTS), kind))[0] == "not_started"


def test_words_that_the_agent_is_to_say() -> None:
    codec = started()
    assert say(codec, "say", text="Hello.") == RequestReply(ReplyOptions(say="Hello."))
    assert say(codec, "say", text="Hello.", interruptible=False) == RequestReply(
        ReplyOptions(say="Hello.", interruptible=False)
    )
    assert say(codec, "text_input", text="hi", interruptible=True) == Say("hi", ReplyOptions(interruptible=True))
    for kind in ("say", "text_input"):
        assert error(say(codec, kind, text="hi", interruptible="no"))[0] == "bad_field"
        assert error(say(codec, kind, text=" "))[0] == "bad_field"
        assert error(say(codec, kind))[0] == "bad_field"
        assert error(say(codec, kind, text="x" * 8193))[0] == "too_long"


def test_a_reply_that_pauses_and_goes_on_and_what_was_said() -> None:
    assert StreamCodec(16000, DEFAULTS).can_pause
    assert received(
        Pause(2, 1200),
        Resume(2, 1200, "and so on"),
        Said((Message("assistant", "Well", 1, interrupted=True),)),
        IdlePassed(1000, 21_000),
    ) == [
        {"type": "pause", "turn": 2, "heard_ms": 1200},
        {"type": "resume", "turn": 2, "from_ms": 1200},
        {"type": "history", "messages": [{"role": "assistant", "text": "Well", "turn": 1, "interrupted": True}]},
        {"type": "idle", "since_ms": 1000, "until_ms": 21_000},
    ]


def test_no_config_is_the_defaults() -> None:
    assert say(StreamCodec(8000, DEFAULTS), "start_streaming") == Start(DEFAULTS)
    assert say(StreamCodec(8000, DEFAULTS), "start_streaming", config=None) == Start(DEFAULTS)


def test_a_short_endpoint_shortens_the_pause() -> None:
    action = say(StreamCodec(16000, DEFAULTS), "start_streaming", config={"endpoint_ms": 120})
    assert action == Start(replace(DEFAULTS, endpoint_ms=120, pause_ms=120))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ("fast", "config"),
        ([], "config"),
        ({"endpoint_ms": 99}, "config.endpoint_ms"),
        ({"endpoint_ms": 5001}, "config.endpoint_ms"),
        ({"endpoint_ms": 500.5}, "config.endpoint_ms"),
        ({"endpoint_ms": True}, "config.endpoint_ms"),
        ({"endpoint_ms": None}, "config.endpoint_ms"),
        ({"endpoint_ms": "500"}, "config.endpoint_ms"),
        ({"pause_ms": 59}, "config.pause_ms"),
        ({"pause_ms": 501}, "config.pause_ms"),
        ({"pause_ms": 300, "endpoint_ms": 200}, "config.pause_ms"),
        ({"start_ms": 10}, "config.start_ms"),
        ({"longest_ms": 999}, "config.longest_ms"),
        ({"threshold": -0.1}, "config.threshold"),
        ({"threshold": "high"}, "config.threshold"),
        ({"speed": 0.2}, "config.speed"),
        ({"speed": 4.1}, "config.speed"),
        ({"voice": "x" * 101}, "config.voice"),
        ({"language": "e" * 36}, "config.language"),
        ({"language": "../en"}, "config.language"),
        ({"instructions": "x" * 32_769}, "config.instructions"),
        ({"instructions": ["x"]}, "config.instructions"),
        ({"spoken": 1}, "config.spoken"),
        ({"speculations": 21}, "config.speculations"),
        ({"min_words": -1}, "config.min_words"),
        ({"greeting": "x" * 8193}, "config.greeting"),
        ({"idle_ms": "never"}, "config.idle_ms"),
        ({"complete_ms": 5001}, "config.complete_ms"),
        ({"volume": 11}, "config.volume"),
    ],
)
def test_a_wrong_setting_is_named_and_the_session_can_still_be_started(config: Any, field: str) -> None:
    codec = StreamCodec(16000, DEFAULTS)
    code, message = error(say(codec, "start_streaming", config=config))
    assert code == "bad_field"
    assert message.startswith(f"{field}: ")
    assert len(message) < 500
    assert say(codec, "start_streaming") == Start(DEFAULTS)


def test_audio_is_passed_as_it_is() -> None:
    pcm = bytes(range(64)) * 10
    (action,) = started().decode(pcm)
    assert isinstance(action, Audio)
    assert action.pcm is pcm


@given(st.lists(st.integers(0, 9), max_size=12))
def test_audio_that_is_cut_anywhere_loses_no_sample(sizes: list[int]) -> None:
    codec, pcm = started(), bytes(range(sum(sizes)))
    heard, start = b"", 0
    for size in sizes:
        heard += b"".join(action.pcm for action in codec.decode(pcm[start : start + size]) if isinstance(action, Audio))
        start += size
        assert heard == pcm[: start & ~1]


@pytest.mark.parametrize("kind", ["commit", "clear", "stop_streaming"])
def test_half_a_sample_is_not_joined_with_the_audio_of_the_next_turn(kind: str) -> None:
    codec = started()
    assert codec.decode(b"\1") == ()
    codec.decode(json.dumps({"type": kind}))
    expected = () if kind == "stop_streaming" else (Audio(b"\2\3"),)
    assert codec.decode(b"\2\3") == expected


def test_a_session_goes_on_with_a_conversation_of_an_earlier_one() -> None:
    said = [{"role": "user", "text": "My name is Ada."}, {"role": "assistant", "text": "Hello Ada."}]
    defaults = replace(DEFAULTS, greeting="Welcome.")
    message = json.dumps({"type": "start_streaming", "history": said})
    assert StreamCodec(16000, defaults).decode(message) == (
        Start(replace(defaults, greeting="")),  # it has greeted already
        SetHistory("earlier_0", "user", "My name is Ada."),
        SetHistory("earlier_1", "assistant", "Hello Ada."),
    )
    for wrong in ({"role": "system", "text": "x"}, {"role": "user"}, "x"):
        assert error(say(StreamCodec(16000, DEFAULTS), "start_streaming", history=[wrong]))[0] == "bad_field"
    code, words = error(say(StreamCodec(16000, DEFAULTS), "start_streaming", history=said * MAX_HISTORY))
    assert (code, words.endswith(f"is not an array of 0 to {MAX_HISTORY} messages")) == ("bad_field", True)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in ("start_streaming", "ping")])
def test_nothing_but_ping_comes_before_the_start(kind: str) -> None:
    codec = StreamCodec(16000, DEFAULTS)
    assert error(say(codec, kind, text="hi", ms=1))[0] == "not_started"
    (action,) = codec.decode(bytes(640))
    assert error(action)[0] == "not_started"
    assert say(codec, "ping") == Send(('{"type":"pong"}',))


def test_a_session_starts_once() -> None:
    assert error(say(started(), "start_streaming"))[0] == "already_started"


def test_after_the_stop_audio_is_not_heard_and_text_is() -> None:
    codec = started()
    assert say(codec, "stop_streaming") == Stop()
    assert codec.decode(json.dumps({"type": "stop_streaming"})) == ()
    assert codec.decode(bytes(640)) == ()
    assert say(codec, "text_input", text="still here") == Say("still here")


def test_what_else_a_client_can_say() -> None:
    codec = started()
    assert say(codec, "text_input", text="x" * 8192) == Say("x" * 8192)
    assert say(codec, "played", ms=250) == Played(0, 250)
    assert say(codec, "played", ms=0, turn=3) == Played(3, 0)
    assert say(codec, "get_stats") == GetStats()
    assert say(codec, "reset_session") == Reset()


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("text_input", {}, "bad_field"),
        ("text_input", {"text": 5}, "bad_field"),
        ("text_input", {"text": " \n"}, "bad_field"),
        ("text_input", {"text": "x" * 8193}, "too_long"),
        ("played", {}, "bad_field"),
        ("played", {"ms": -1}, "bad_field"),
        ("played", {"ms": "5"}, "bad_field"),
        ("played", {"ms": 1, "turn": None}, "bad_field"),
        ("sing", {}, "unknown_type"),
    ],
)
def test_a_wrong_field_is_an_error(kind: str, fields: dict[str, Any], code: str) -> None:
    assert error(say(started(), kind, **fields))[0] == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "bad_json"),
        ("{", "bad_json"),
        ('{"type":NaN}', "bad_json"),
        ("[" * 2000, "bad_json"),
        ("null", "unknown_type"),
        ("[1]", "unknown_type"),
        ("{}", "unknown_type"),
        ('{"type":["ping"]}', "unknown_type"),
    ],
)
def test_what_is_no_message_is_an_error(message: str, code: str) -> None:
    (action,) = started().decode(message)
    assert error(action)[0] == code


def test_a_turn_as_the_client_is_told_of_it() -> None:
    assert received(
        SpeechBegan(1, 0),
        Transcribed(1, "hel", final=False),
        SpeechEnded(1, 900, final=False),
        SpeechEnded(1, 900, final=True),
        TurnBegan(1, 1250, wants_reply=True),
        Transcribed(1, "hello", final=True),
        ReplyBegan(1),
        ReplyText(1, "Hi."),
        ReplyAudio(1, 0, b"\1\2"),
        Timing(
            1, {"endpoint": 500.0, "first_audio": 510.5}, True, (Segment("endpoint", "vad", 0.0, 500.0),), ("a", "b")
        ),
        ReplyEnded(1, "completed", "Hi."),
        Interrupt(1, 40, "Hi"),
    ) == [
        {"type": "vad_status", "is_speaking": True, "speech_probability": 1.0},
        {"type": "transcript", "turn": 1, "text": "hel", "final": False},
        {"type": "vad_status", "is_speaking": False, "speech_probability": 0.0},
        {"type": "processing_started", "turn": 1, "audio_duration": 1.25},
        {"type": "transcript", "turn": 1, "text": "hello", "final": True},
        {"type": "reply_started", "turn": 1},
        {"type": "model_response", "turn": 1, "text": "Hi.", "finalize": False},
        b"\1\2",
        {
            "type": "timing",
            "turn": 1,
            "spoken": True,
            "marks": {"endpoint": 500.0, "first_audio": 510.5},
            "segments": [{"name": "endpoint", "begin_ms": 0.0, "end_ms": 500.0}],
            "reasons": ["a", "b"],
        },
        {"type": "model_response", "turn": 1, "text": "", "finalize": True},
        {"type": "reply_done", "turn": 1, "status": "completed"},
        {"type": "interrupt", "turn": 1, "heard_ms": 40, "heard": "Hi"},
    ]


def test_what_was_no_turn_takes_its_partials_back() -> None:
    assert received(SpeechBegan(2, 0), TurnDropped(2, "noise"))[1:] == [
        {"type": "vad_status", "is_speaking": False, "speech_probability": 0.0},
        {"type": "transcript", "turn": 2, "text": "", "final": True},
    ]


def test_figures_and_failures() -> None:
    assert received(Stats({"turns": 3, "type": "x"}), Failed("asr", "gone", 4), Failed("slow", "wait")) == [
        {"type": "stats", "turns": 3},
        {"type": "error", "code": "asr", "message": "gone", "turn": 4},
        {"type": "error", "code": "slow", "message": "wait"},
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(["config", "text", "ms", "turn"]), anything)


@given(
    messages=st.lists(
        st.binary(max_size=9)
        | st.text(max_size=20)
        | st.builds(lambda k, b: json.dumps({**b, "type": k}), st.sampled_from(TYPES), bodies)
    )
)
def test_no_message_can_raise(messages: list[str | bytes]) -> None:
    codec = StreamCodec(16000, DEFAULTS)
    for message in messages:
        for action in codec.decode(message):
            if isinstance(action, Send):
                json.loads(action.messages[0])


def test_a_client_resumes_its_session_or_begins_another_with_what_it_says() -> None:
    received = {"n": 7, "turn": 2, "samples": 480}
    codec = StreamCodec(16000, DEFAULTS)
    message = {"type": "start_streaming", "resume": "s.secret", "received": received, "config": {"speed": 2.0}}
    (wish,) = codec.decode(json.dumps(message))
    assert isinstance(wish, act.Resume)
    assert (wish.token, wish.number, wish.turn, wish.samples) == ("s.secret", 7, 2, 480)
    assert wish.otherwise == (Start(replace(DEFAULTS, speed=2.0)),)
    assert "secret" not in repr(wish)
    assert json.loads(codec.numbered('{"type":"reply_done","turn":2}', 8)) == {"type": "reply_done", "turn": 2, "n": 8}
