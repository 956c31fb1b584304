"""Realtime: whatever either side does, nothing raises, and each response is created and done once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.edge.client.events import (
    Failed,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    SpeechBegan,
    SpeechEnded,
    Transcribed,
    TurnBegan,
    TurnDropped,
)
from shared.protocol.session import ToolCall
from tests.support.realtime_client import Client

names = st.sampled_from(
    [
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.delete",
        "conversation.item.truncate",
        "response.create",
        "response.cancel",
    ]
)
keys = st.sampled_from(
    [
        "type",
        "session",
        "audio",
        "input",
        "output",
        "format",
        "rate",
        "voice",
        "speed",
        "turn_detection",
        "threshold",
        "transcription",
        "tools",
        "name",
        "parameters",
        "tool_choice",
        "call_id",
        "arguments",
        "id",
        "item",
        "item_id",
        "role",
        "content",
        "text",
        "previous_item_id",
        "response",
        "metadata",
        "instructions",
        "audio_end_ms",
        "event_id",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["realtime", "server_vad", "audio/pcm", "message", "user", "input_text", "root", "item_9",
        "function", "function_call", "function_call_output", "call_1", "weather"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
turns = st.integers(1, 3)
events = st.one_of(
    st.builds(SpeechBegan, turns, st.integers(0, 9)),
    st.builds(SpeechEnded, turns, st.integers(0, 9), st.booleans()),
    st.builds(TurnBegan, turns, st.integers(0, 9), st.booleans()),
    st.builds(TurnDropped, turns, st.just("")),
    st.builds(Transcribed, turns, st.text(max_size=4), st.booleans()),
    st.builds(ReplyBegan, turns),
    st.builds(ReplyText, turns, st.text(max_size=4)),
    st.builds(ReplyAudio, turns, st.just(0), st.just(bytes(48))),
    st.builds(
        ReplyEnded, turns, st.sampled_from(["completed", "cancelled", "interrupted", "failed", "empty"]), st.text()
    ),
    st.builds(
        ReplyEnded,
        turns,
        st.just("completed"),
        st.text(max_size=4),
        st.tuples(st.builds(ToolCall, st.sampled_from(["call_1", "call_2"]), st.text(max_size=4), st.text(max_size=4))),
    ),
    st.builds(Failed, st.just("x"), st.just("y"), st.integers(0, 3)),
)


@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_no_message_can_raise(message: str | bytes) -> None:
    Client().codec.decode(message)


@given(steps=st.lists(st.tuples(names, st.dictionaries(keys, values, max_size=4)) | events, max_size=25))
def test_whatever_happens_the_sdk_reads_it_and_every_response_is_created_and_done_once(steps: list[Any]) -> None:
    client = Client()
    for step in steps:
        if isinstance(step, tuple):
            client.say(step[0], **{name: value for name, value in step[1].items() if name != "type"})
        else:
            client.tell(step)
    created = [event["response"]["id"] for event in client.seen if event["type"] == "response.created"]
    done = [event["response"]["id"] for event in client.seen if event["type"] == "response.done"]
    assert len(set(created)) == len(created)
    assert len(set(done)) == len(done)
    assert set(done) <= set(created)
    assert len(created) - len(done) <= 1
    announced: set[str] = set()
    for event in client.seen:
        if event["type"] == "response.output_item.added":
            announced.add(event["item"]["id"])
        elif event["type"] in ("response.output_audio.delta", "response.output_audio_transcript.delta"):
            assert event["item_id"] in announced
