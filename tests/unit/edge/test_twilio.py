"""A phone call: what Twilio sends, what it may be sent, and what the caller has heard of it."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.client.actions import Action, Audio, Close, Played, Start, Stop
from services.edge.client.events import (
    Event,
    Failed,
    Interrupt,
    Pause,
    Ready,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    Resume,
    Transcribed,
)
from services.edge.protocols.twilio import TwilioCodec, valid_signature
from shared.audio.pcm import decode_law, encode_law
from shared.protocol.session import SessionSettings
from tests.support.agents import one_agent

DEFAULTS = SessionSettings()


def begin(**parameters: str) -> dict[str, Any]:
    return {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": "MZ1",
        "start": {
            "streamSid": "MZ1",
            "accountSid": "AC1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "customParameters": parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }


def media(chunk: int, codes: bytes, **more: Any) -> dict[str, Any]:
    payload = base64.b64encode(codes).decode()
    content = {"track": "inbound", "chunk": str(chunk), "timestamp": str(20 * chunk), "payload": payload, **more}
    return {"event": "media", "sequenceNumber": str(chunk + 1), "streamSid": "MZ1", "media": content}


def mark(name: Any) -> dict[str, Any]:
    return {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}


def send(codec: TwilioCodec, body: dict[str, Any]) -> Sequence[Action]:
    return codec.decode(json.dumps(body))


def call(**parameters: str) -> TwilioCodec:
    codec = TwilioCodec(one_agent(DEFAULTS))
    connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert send(codec, connected) == ()
    (action,) = send(codec, begin(**parameters))
    assert isinstance(action, Start)
    return codec


def close_code(actions: Sequence[Action]) -> tuple[int, str]:
    action = actions[-1]
    assert isinstance(action, Close)
    assert len(action.reason.encode()) <= 123
    return action.code, action.reason


def sent(codec: TwilioCodec, turn: int, offset: int, samples: int) -> tuple[bytes, list[str]]:
    """Has the session speak; returns the µ-law that leaves and the names of the marks."""
    pcm = np.arange(samples, dtype=np.int64).astype("<i2").tobytes()
    messages = [json.loads(message) for message in codec.encode(ReplyAudio(turn, offset, pcm))]
    assert all(message["streamSid"] == "MZ1" for message in messages)
    assert [message["event"] for message in messages] == ["media", "mark"] * (len(messages) // 2)
    codes = b"".join(base64.b64decode(message["media"]["payload"]) for message in messages[::2])
    assert codes == encode_law("ulaw", pcm)
    assert all(len(message["media"]["payload"]) <= 2136 for message in messages[::2])
    return codes, [message["mark"]["name"] for message in messages[1::2]]


def test_a_call_starts_with_its_parameters() -> None:
    codec = TwilioCodec(one_agent(DEFAULTS))
    assert (codec.rate_hz, codec.starts_with) == (8000, None)
    body = begin(language="de", voice="de-f", instructions="Be brief.", endpoint_ms="700", caller="+49123")
    expected = replace(DEFAULTS, language="de", voice="de-f", instructions="Be brief.", endpoint_ms=700)
    assert send(codec, body) == (Start(expected),)


@pytest.mark.parametrize(
    "parameters",
    [
        {"endpoint_ms": "soon"},
        {"endpoint_ms": "7"},
        {"endpoint_ms": "-500"},
        {"language": "x" * 300},
        {"voice": "é" * 300},
    ],
)
def test_a_wrong_parameter_ends_the_call_and_is_named(parameters: dict[str, str]) -> None:
    code, reason = close_code(send(TwilioCodec(one_agent(DEFAULTS)), begin(**parameters)))
    assert code == 1008
    assert reason.startswith(f"customParameters.{next(iter(parameters))}")


def test_the_callers_voice_is_decoded() -> None:
    codes = bytes(range(160))
    assert send(call(), media(1, codes)) == (Audio(decode_law("ulaw", codes)),)


def test_doubled_and_late_chunks_are_dropped_and_gaps_are_not_waited_for() -> None:
    codec = call()
    heard = [number for number in (1, 2, 2, 5, 4, 3, 6, 6, 7) if send(codec, media(number, bytes(160)))]
    assert heard == [1, 2, 5, 6, 7]


def test_our_own_voice_is_not_heard() -> None:
    assert send(call(), media(1, bytes(160), track="outbound")) == ()


def test_a_key_is_no_speech() -> None:
    assert send(call(), {"event": "dtmf", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "1"}}) == ()


def test_a_reply_leaves_in_fifths_of_a_second_each_with_its_mark() -> None:
    codec = call()
    assert sent(codec, 3, 0, 4000)[1] == ["t3:1600:0", "t3:3200:0", "t3:4000:0"]
    assert sent(codec, 3, 4000, 160)[1] == ["t3:4160:0"]


def test_a_mark_that_comes_back_is_what_was_heard() -> None:
    codec = call()
    _, names = sent(codec, 3, 0, 2000)
    assert [send(codec, mark(name)) for name in names] == [(Played(3, 200),), (Played(3, 250),)]


def test_marks_that_a_clear_threw_away_were_not_heard() -> None:
    codec = call()
    _, names = sent(codec, 3, 0, 4800)
    assert send(codec, mark(names[0])) == (Played(3, 200),)
    (clear,) = codec.encode(Interrupt(3, 210))
    assert json.loads(clear) == {"event": "clear", "streamSid": "MZ1"}
    assert [send(codec, mark(name)) for name in names[1:]] == [(), ()]
    # The same reply may go on, with the same numbers.
    _, again = sent(codec, 3, 1680, 1520)
    assert send(codec, mark(again[0])) == (Played(3, 400),)
    assert send(codec, mark(names[1])) == ()


@pytest.mark.parametrize(
    "name", [None, 5, "", "t3", "t3:x:0", "x3:5:0", "t3:5:1", "t:5:0", "t3:-5:0", "a:b:c:d", "t3:5:0" * 30]
)
def test_a_mark_that_is_not_ours_says_nothing(name: Any) -> None:
    assert send(call(), mark(name)) == ()


def test_the_end_of_the_call() -> None:
    codec = call()
    actions = send(codec, {"event": "stop", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}})
    assert actions == (Stop(), Close(1000, "the call ended"))
    assert send(codec, media(1, bytes(160))) == ()
    assert codec.encode(ReplyAudio(1, 0, bytes(2))) == ()


def test_nothing_but_media_mark_and_clear_is_sent() -> None:
    codec = call()
    events: list[Event] = [
        Ready("s", DEFAULTS), Transcribed(1, "hi", final=True), ReplyBegan(1), ReplyText(1, "x"),
        ReplyEnded(1, "completed", "x"), Failed("a", "b"),
    ]  # fmt: skip
    assert [message for event in events for message in codec.encode(event)] == []


def test_nothing_is_sent_before_the_call_began() -> None:
    assert TwilioCodec(one_agent(DEFAULTS)).encode(ReplyAudio(1, 0, bytes(320))) == ()


def changed(path: str, value: Any) -> dict[str, Any]:
    body = json.loads(json.dumps(begin()))
    *parents, last = path.split(".")
    inner = body
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return dict(body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event": 3},
        media(1, bytes(160)),
        mark("t1:1:0"),
        {"event": "start"},
        {"event": "start", "start": []},
        changed("start.streamSid", ""),
        changed("start.streamSid", 5),
        changed("start.mediaFormat", None),
        changed("start.mediaFormat.encoding", "audio/x-l16"),
        changed("start.mediaFormat.sampleRate", 16000),
    ],
)
def test_what_is_no_call_is_closed(body: dict[str, Any]) -> None:
    codec = TwilioCodec(one_agent(DEFAULTS))
    assert close_code(send(codec, body))[0] == 1008
    assert send(codec, begin()) == ()


@pytest.mark.parametrize("message", ["", "{", "[]", "null", b"\0\1"])
def test_what_is_no_message_is_closed(message: str | bytes) -> None:
    assert close_code(call().decode(message))[0] == 1008


@pytest.mark.parametrize("payload", [None, 5, "A", "A===", "ä", "no base64!", "A" * 70_000])
def test_a_payload_that_is_no_audio_is_closed(payload: Any) -> None:
    assert close_code(send(call(), media(1, b"", payload=payload)))[0] == 1008


def test_a_second_start_is_closed() -> None:
    assert close_code(send(call(), begin()))[0] == 1008


def test_the_signature_of_the_request() -> None:
    # Computed with the openssl command: printf URL | openssl dgst -sha1 -hmac TOKEN -binary | base64
    token, url, signature = "12345", "wss://voice.example.com/phone/twilio", "/J1bGra79TsD11QZe4gr3xLuWOI="
    assert valid_signature(token, url, signature)
    assert valid_signature(token, "wss://voice.example.com:443/phone/twilio", signature)
    for wrong in (None, "", "x", signature.lower(), "ü", signature + "\n"):
        assert not valid_signature(token, url, wrong)
    assert not valid_signature("other", url, signature)
    assert not valid_signature(token, url + "/", signature)
    assert not valid_signature(token, url.replace("wss", "https"), signature)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["track", "chunk", "payload", "name", "streamSid", "mediaFormat", "customParameters"])


@given(
    messages=st.lists(
        st.binary(max_size=9) | st.text(max_size=9)
        | st.builds(
            lambda kind, inner: json.dumps({"event": kind, kind: inner}),
            st.sampled_from(["start", "media", "mark", "dtmf", "connected"]),
            st.dictionaries(names, anything) | anything,
        ),
        max_size=5,
    ),
    running=st.booleans(),
)  # fmt: skip
def test_no_message_can_raise(messages: list[str | bytes], running: bool) -> None:
    codec = call() if running else TwilioCodec(one_agent(DEFAULTS))
    for message in messages:
        codec.decode(message)


def test_a_reply_that_pauses_is_cleared_and_its_rest_is_sent_again() -> None:
    codec = call()
    assert not codec.can_pause
    _, before = sent(codec, 1, 0, 8000)
    (clear,) = codec.encode(Pause(1, 400))
    assert json.loads(clear)["event"] == "clear"
    assert send(codec, mark(before[-1])) == ()  # given back by the clear, and not played
    assert codec.encode(Resume(1, 400, "and so on")) == ()
    _, again = sent(codec, 1, 3200, 4800)
    assert send(codec, mark(again[0])) == (Played(1, 600),)  # of the reply, from its beginning
    assert send(codec, mark(again[-1])) == (Played(1, 1000),)


def test_an_interruption_after_a_pause_has_nothing_to_clear() -> None:
    codec = call()
    sent(codec, 1, 0, 8000)
    assert len(codec.encode(Pause(1, 400))) == 1
    assert codec.encode(Interrupt(1, 400)) == ()
    _, marks = sent(codec, 2, 0, 800)
    assert send(codec, mark(marks[-1])) == (Played(2, 100),)
    assert len(codec.encode(Interrupt(2, 50))) == 1
