"""Laws of all protocols: whatever JSON comes, only the protocol's own error answers it, and the session goes on."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.client.actions import Close, Configure, Start
from services.edge.protocols.stream import StreamCodec
from services.edge.protocols.twilio import TwilioCodec
from shared.protocol.session import SessionSettings
from tests.support.agents import one_agent
from tests.support.realtime_client import Client, kinds, replies, updated

TOOL = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "Be brief.",
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "weather"},
    "max_output_tokens": 100,
    "tracing": "auto",
    "prompt": {"id": "p"},
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "whisper-1", "language": "de", "prompt": "Ada"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.6,
                "prefix_padding_ms": 200,
                "silence_duration_ms": 600,
                "idle_timeout_ms": 5000,
                "create_response": True,
                "interrupt_response": False,
            },
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.25},
    },
}
SEMANTIC = {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}}}
PARTS = [{"type": "input_text", "text": "hi"}, {"type": "input_audio", "transcript": "you"}]
REALTIME: list[dict[str, Any]] = [
    {"type": "session.update", "session": SESSION},
    {"type": "session.update", "session": SEMANTIC},
    {"type": "conversation.item.create", "item": {"id": "a", "type": "message", "role": "user", "content": PARTS}},
    {"type": "conversation.item.create", "item": {"type": "function_call", "name": "n", "arguments": "{}"}},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "o"}},
    {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 50},
    {"type": "response.create", "response": {"instructions": "i", "metadata": {"a": "b"}, "tools": [TOOL]}},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
]
FIELDS = {"type", "session", "item", "audio", "audio_end_ms", "content_index", "response"}
CONFIG = {"endpoint_ms": 700, "threshold": 0.4, "voice": "en-us", "language": "pt-BR", "spoken": False, "route": "omni"}
STREAM: list[dict[str, Any]] = [
    {"type": "configure", "config": CONFIG},
    {"type": "text_input", "text": "hi", "interruptible": True},
    {"type": "played", "turn": 1, "ms": 5},
]
MULAW = {"encoding": "audio/x-mulaw", "sampleRate": 8000}
BEGIN = {"streamSid": "MZ1", "mediaFormat": MULAW, "customParameters": {"language": "de", "endpoint_ms": "700"}}
TWILIO: list[dict[str, Any]] = [
    {"event": "start", "start": BEGIN},
    {"event": "media", "media": {"track": "inbound", "chunk": "1", "payload": "AAAA"}},
    {"event": "mark", "mark": {"name": "t1:1600:0"}},
]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["auto", "inf", "message", "server_vad", "semantic_vad", "audio/pcmu", 2**64 - 1, 2**31 + 1, "x" * 40_000]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "id", "name", "text", "x"]) | st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


@st.composite
def changed(draw: st.DrawFn, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """One of these messages, with something else in one or two places, or with a place missing."""
    message = copy.deepcopy(draw(st.sampled_from(messages)))
    for _ in range(draw(st.integers(1, 2))):
        *parents, last = draw(st.sampled_from(list(places(message))))
        inner: Any = message
        for key in parents:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = draw(anything)
        elif isinstance(inner, dict) and len(message) > 1:
            del inner[last]
    return message


def said(client: Client, message: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to a message; not read with the SDK, which refuses some of what is sent back as it came."""
    return replies(client.codec.decode(json.dumps(message)))


def session_of(client: Client, **update: Any) -> dict[str, Any]:
    (answer,) = said(client, {"type": "session.update", "session": update})
    assert answer["type"] == "session.updated", answer
    return dict(answer["session"])


@settings(deadline=None)
@given(message=changed(REALTIME))
def test_realtime_answers_what_is_wrong_with_one_error_and_changes_nothing(message: dict[str, Any]) -> None:
    client = Client()
    before = session_of(client)
    answers = said(client, message)
    if "error" in kinds(answers):
        (answer,) = answers
        error = answer["error"]
        assert error["type"] == "invalid_request_error"
        assert len(error["message"]) < 400
        if error["code"] in ("invalid_value", "unknown_parameter"):
            assert error["param"] in error["message"] or "'audio'" in error["message"]
            assert error["param"].split(".")[0] in FIELDS
        assert session_of(client) == before


@settings(deadline=None)
@given(message=changed(REALTIME[:2]))
def test_the_session_that_realtime_tells_can_be_sent_back_and_changes_nothing(message: dict[str, Any]) -> None:
    client = Client()
    said(client, message)
    received = session_of(client)
    assert session_of(client, **received) == received


@settings(deadline=None)
@given(message=changed(STREAM), started=st.booleans())
def test_the_stream_protocol_answers_what_is_wrong_with_one_error(message: dict[str, Any], started: bool) -> None:
    codec = StreamCodec(16000, SessionSettings())
    if started:
        codec.decode('{"type":"start_streaming"}')
    actions = codec.decode(json.dumps(message))
    assert len(actions) <= 1
    for answer in replies(actions):
        assert answer["type"] in ("error", "pong")
        assert len(answer.get("message", "")) < 700
    (action,) = codec.decode(json.dumps({"type": "configure" if started else "start_streaming"}))
    assert isinstance(action, Configure | Start)


@settings(deadline=None)
@given(message=changed(TWILIO), running=st.booleans())
def test_twilio_takes_a_message_or_ends_the_call(message: dict[str, Any], running: bool) -> None:
    codec = TwilioCodec(one_agent(SessionSettings()))
    if running:
        codec.decode(json.dumps(TWILIO[0]))
    actions = codec.decode(json.dumps(message))
    for action in actions:
        if isinstance(action, Close):
            assert len(action.reason.encode()) <= 123
            assert codec.decode(json.dumps(TWILIO[0])) == ()


@settings(deadline=None)
@given(data=st.data(), message=st.sampled_from(REALTIME))
def test_an_event_that_is_cut_off_is_refused_and_the_next_is_taken(
    data: st.DataObject, message: dict[str, Any]
) -> None:
    client, whole = Client(), json.dumps(message)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    (answer,) = replies(client.codec.decode(part))
    assert answer["error"]["code"] == "invalid_json"
    updated(client)


def test_of_a_field_that_comes_twice_the_last_one_counts() -> None:
    client = Client()
    answers = replies(
        client.codec.decode('{"type":"x","type":"session.update","session":{"instructions":1,"instructions":"b"}}')
    )
    assert answers[0]["session"]["instructions"] == "b"


@pytest.mark.parametrize("depth", [200, 300, 1000, 100_000])
@pytest.mark.parametrize("field", ["type", "session", "item", "item_id", "response", "audio"])
@pytest.mark.parametrize("kind", [message["type"] for message in REALTIME])
def test_an_event_that_is_nested_deeply_ends_nothing(kind: str, field: str, depth: int) -> None:
    client = Client()
    deep = "[" * depth + "]" * depth
    for value in (
        "%s",
        '{"prompt":%s}',
        '{"x":%s}',
        '{"type":%s}',
        '{"type":"message","role":"user","content":%s}',
        '{"type":"message","role":"user","content":[{"type":%s}]}',
        '{"metadata":%s}',
        '{"tools":%s}',
    ):
        answers = replies(client.codec.decode(f'{{"type":"{kind}","{field}":{value % deep}}}'))
        assert all(len(json.dumps(answer)) < 5000 for answer in answers)
    session_of(client)


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\ud800"', "NaN", "Infinity", "1e999", "-1e999", "01", "'x'", '"x', "1 1", "\ufeff{}"]
)
def test_what_is_not_json_is_named_so(text: str) -> None:
    client = Client()
    (answer,) = replies(client.codec.decode(f'{{"type":"session.update","session":{{"prompt":{text}}}}}'))
    assert answer["error"]["code"] == "invalid_json"
    stream = StreamCodec(16000, SessionSettings())
    assert replies(stream.decode(f'{{"type":"start_streaming","config":{text}}}'))[0]["code"] == "bad_json"
