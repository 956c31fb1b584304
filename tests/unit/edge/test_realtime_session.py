"""Realtime: the session object, what a client may change in it, and the formats of its audio."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.edge.client.actions import Audio, Configure
from services.edge.client.events import Ready, ReplyAudio, ReplyBegan, ReplyEnded, TurnBegan
from shared.audio.pcm import Law, decode_law, encode_law
from tests.support.realtime_client import DEFAULTS, Client, kinds, updated


def test_the_session_is_told_in_full() -> None:
    client = Client(ready=False)
    (created,) = client.tell(Ready("sess_x", DEFAULTS))
    session = created["session"]
    assert session["id"] == "sess_x"
    assert session["expires_at"] == 1234
    assert session["model"] == "parley"
    assert session["instructions"] == "Be kind."
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def test_what_comes_before_the_session_is_ready_is_answered_after_session_created() -> None:
    client = Client(ready=False)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    assert client.say("session.update", session={"type": "realtime", "instructions": "Be brief."}) == []
    assert client.actions == [Configure(replace(DEFAULTS, instructions="Be brief."))]
    assert client.say("conversation.item.create", item=item) == []
    assert len(client.actions) == 1
    assert client.say("nonsense") == []
    assert kinds(client.tell(Ready("sess_x", DEFAULTS))) == [
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "error",
    ]


def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    client = Client()
    vad = {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 120, "create_response": False}
    echo, settings = updated(client, audio={"input": {"turn_detection": vad}})
    expected = replace(DEFAULTS, threshold=0.7, endpoint_ms=120, pause_ms=120, create_reply=False)
    assert settings == expected
    echo, settings = updated(client, instructions="", audio={"output": {"speed": 1.2}}, tools=None)
    assert settings == replace(expected, instructions="", speed=1.2)
    assert echo["audio"]["input"]["turn_detection"]["threshold"] == 0.7
    assert echo["audio"]["input"]["turn_detection"]["prefix_padding_ms"] == 300
    echo, settings = updated(
        client, audio={"input": {"turn_detection": {"threshold": 0.4}}}, output_modalities=["text"]
    )
    assert (settings.threshold, settings.endpoint_ms, settings.spoken) == (0.4, 120, False)


@pytest.mark.parametrize(
    ("eagerness", "waits"),
    [("low", (1000, 500, 8000)), ("medium", (500, 350, 4000)), ("auto", (500, 350, 4000)), ("high", (300, 250, 2000))],
)
def test_semantic_vad_asks_an_engine_and_is_echoed_as_sent(eagerness: str, waits: tuple[int, int, int]) -> None:
    detection = {"type": "semantic_vad", "eagerness": eagerness, "interrupt_response": False}
    echo, settings = updated(Client(), audio={"input": {"turn_detection": detection}})
    expected = dict(zip(("endpoint_ms", "complete_ms", "incomplete_ms"), waits, strict=True))
    assert settings == replace(DEFAULTS, adapt_endpoint=True, interrupt_reply=False, **expected)  # type: ignore[arg-type]
    assert echo["audio"]["input"]["turn_detection"] == {**detection, "create_response": True}


@pytest.mark.parametrize("off", [None, False])
def test_no_turn_detection_is_push_to_talk_and_can_be_undone(off: object) -> None:
    client = Client()
    echo, settings = updated(client, audio={"input": {"turn_detection": off}})
    assert settings == replace(DEFAULTS, detect_turns=False)
    assert echo["audio"]["input"]["turn_detection"] is None
    assert updated(client, audio={"input": {"turn_detection": {"type": "server_vad"}}})[1] == DEFAULTS


def test_null_switches_the_idle_timeout_off() -> None:
    client = Client()
    _, settings = updated(client, audio={"input": {"turn_detection": {"idle_timeout_ms": 5000}}})
    assert (settings.idle_ms, settings.idle_prompt) == (5000, "")
    echo, settings = updated(client, audio={"input": {"turn_detection": {"idle_timeout_ms": None}}})
    assert echo["audio"]["input"]["turn_detection"]["idle_timeout_ms"] is None
    assert settings == DEFAULTS


@pytest.mark.parametrize(
    ("voice", "used"),
    [("alloy", ""), ("af", "af"), ("en-us+f3", "en-us+f3"), ({"id": "en-us"}, "en-us"), ({"id": "voice_1"}, "")],
)
def test_a_voice_that_nobody_has_is_the_default_under_its_own_name(voice: Any, used: str) -> None:
    client = Client()
    echo, settings = updated(client, audio={"output": {"voice": voice}})
    assert settings.voice == used
    assert echo["audio"]["output"]["voice"] == voice
    client.tell(TurnBegan(1, 500, wants_reply=True), ReplyBegan(1))  # parsed strictly: there a voice is a string


def test_what_sdks_send_unasked_is_taken() -> None:
    echo, settings = updated(
        Client(),
        model="gpt-realtime",
        tracing="auto",
        prompt=None,
        include=["item.input_audio_transcription.logprobs"],
        truncation={"type": "retention_ratio", "retention_ratio": 0.8},
        tools=[{"type": "function", "name": "weather", "description": "", "parameters": {"type": "object"}}],
        tool_choice={"type": "function", "name": "weather"},
        max_output_tokens=512,
        audio={
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": {"type": "near_field"},
                "transcription": {"model": "gpt-4o-mini-transcribe", "language": "de"},
                "turn_detection": {"type": "semantic_vad"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1},
        },
    )
    assert (settings.language, settings.adapt_endpoint) == ("de", True)
    assert echo["model"] == "parley"
    assert echo["tools"][0]["name"] == "weather"
    assert echo["audio"]["input"]["transcription"]["model"] == "gpt-4o-mini-transcribe"


def test_the_prompt_of_a_transcription_is_what_may_be_heard() -> None:
    client = Client()
    received = {"model": "whisper-1", "prompt": "Ada Lovelace, Boole", "language": "en-GB"}
    echo, settings = updated(client, audio={"input": {"transcription": received}})
    assert (settings.hints, settings.language) == ("Ada Lovelace, Boole", "en-GB")
    assert echo["audio"]["input"]["transcription"] == received
    for without in ({"model": "whisper-1", "prompt": None}, {"model": "whisper-1"}, None):
        assert updated(client, audio={"input": {"transcription": without}})[1].hints == DEFAULTS.hints


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ("no object", "session"),
        ({"type": "transcription"}, "session.type"),
        ({"instructions": 3}, "session.instructions"),
        ({"modalities": ["audio"]}, "session.modalities"),
        ({"output_modalities": ["audio", "text"]}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"tools": {}}, "session.tools"),
        ({"tools": [1]}, "session.tools[0]"),
        ({"tool_choice": "some"}, "session.tool_choice"),
        ({"audio": []}, "session.audio"),
        ({"audio": {"input": {"format": "pcm16"}}}, "session.audio.input.format"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "session.audio.input.format"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"noise_reduction": {"type": "none"}}}}, "session.audio.input.noise_reduction"),
        ({"audio": {"input": {"transcription": {"language": "a/b"}}}}, "session.audio.input.transcription.language"),
        ({"audio": {"input": {"transcription": {"prompt": 7}}}}, "session.audio.input.transcription.prompt"),
        ({"audio": {"input": {"transcription": {"prompt": "x" * 4097}}}}, "session.audio.input.transcription.prompt"),
        ({"audio": {"input": {"turn_detection": True}}}, "session.audio.input.turn_detection"),
        ({"audio": {"input": {"turn_detection": {"type": "x"}}}}, "session.audio.input.turn_detection.type"),
        (
            {"audio": {"input": {"turn_detection": {"threshold": 2}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"create_response": 1}}}},
            "session.audio.input.turn_detection.create_response",
        ),
        ({"audio": {"output": {"speed": 9}}}, "session.audio.output.speed"),
        ({"audio": {"output": {"voice": {"name": "x"}}}}, "session.audio.output.voice"),
    ],
)
def test_a_wrong_update_is_named_and_changes_nothing(session: Any, param: str) -> None:
    client = Client()
    if isinstance(session, dict):
        session = {"tracing": "auto", **session}
    error = client.error("session.update", session=session)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["code"] in ("invalid_value", "unknown_parameter")
    echo, settings = updated(client)
    assert settings == DEFAULTS
    assert echo["tracing"] is None


def test_a_session_that_is_too_deep_to_be_told_back_is_refused() -> None:
    client = Client()
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert client.error("session.update", session={"type": "realtime", "prompt": deep})["param"] == "session"
    updated(client)


@pytest.mark.parametrize(("law", "name"), [("ulaw", "audio/pcmu"), ("alaw", "audio/pcma")])
def test_both_formats_of_telephones(law: Law, name: str) -> None:
    client = Client()
    updated(client, audio={"input": {"format": {"type": name}}, "output": {"format": {"type": name}}})
    assert client.codec.rate_hz == 8000
    codes = bytes(range(160))
    client.append(codes)
    assert client.actions == [Audio(decode_law(law, codes))]
    pcm = np.arange(-400, 400, dtype="<i2").tobytes()
    events = client.tell(TurnBegan(1, 100, wants_reply=True), ReplyBegan(1), ReplyAudio(1, 0, pcm))
    assert base64.b64decode(events[-1]["delta"]) == encode_law(law, pcm)


def test_formats_of_two_rates_are_converted_to_the_rate_of_the_session() -> None:
    client = Client()
    updated(client, audio={"output": {"format": {"type": "audio/pcmu"}}})
    assert client.codec.rate_hz == 24000
    client.append(bytes(4800))
    assert client.actions == [Audio(bytes(4800))]
    events = client.tell(
        TurnBegan(1, 100, wants_reply=True),
        ReplyBegan(1),
        ReplyAudio(1, 0, bytes(48000)),
        ReplyEnded(1, "completed", ""),
    )
    sound = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
    assert sound == encode_law("ulaw", bytes(16000))
    # After the first audio the rate stands, whatever formats follow.
    updated(client, audio={"input": {"format": {"type": "audio/pcma"}}})
    assert client.codec.rate_hz == 24000
    client.append(encode_law("alaw", bytes(1600)))
    (action,) = client.actions
    assert isinstance(action, Audio)
    assert 6 * 760 < len(action.pcm) < 6 * 800  # the resampler holds a little back
