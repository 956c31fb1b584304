"""Realtime: the order of events in turns that are spoken, typed and pushed, and of their replies."""

import base64

import numpy as np
import pytest

from services.edge.client.actions import Audio, CancelReply, Clear, Commit, RequestReply, SetHistory, Truncate
from services.edge.client.events import (
    Event,
    Failed,
    Interrupt,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    SpeechBegan,
    SpeechEnded,
    Stats,
    Timing,
    Transcribed,
    TurnBegan,
    TurnDropped,
)
from shared.protocol.session import ReplyOptions
from tests.support.realtime_client import Client, kinds, turn_with_reply, updated


def test_one_voice_turn_in_the_order_that_clients_know() -> None:
    client = Client()
    pcm = np.arange(4800, dtype="<i2").tobytes()
    client.append(bytes(960))
    assert client.actions == [Audio(bytes(960))]
    events = client.tell(
        SpeechBegan(1, 120),
        SpeechEnded(1, 1400, final=False),
        SpeechEnded(1, 1900, final=True),
        TurnBegan(1, 1300, wants_reply=True),
        Transcribed(1, "hello", final=False),
        Transcribed(1, "hello there", final=True),
        ReplyBegan(1),
        ReplyText(1, "Good "),
        ReplyAudio(1, 0, pcm),
        ReplyText(1, "day."),
        ReplyAudio(1, 4800, pcm),
        ReplyEnded(1, "completed", "Good day."),
    )
    assert kinds(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    by_kind = {event["type"]: event for event in events}
    user = events[0]["item_id"]
    assert {event.get("item_id", user) for event in events[:3]} == {user}
    assert events[0]["audio_start_ms"] == 120
    assert events[1]["audio_end_ms"] == 1900
    assert events[2]["previous_item_id"] is None
    assert events[3]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert events[7]["transcript"] == "hello there"
    assert events[7]["usage"] == {"type": "duration", "seconds": 1.3}
    assert events[8]["response"]["status"] == "in_progress"
    assert events[10]["previous_item_id"] == user
    sound = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
    assert sound == pcm * 2
    assert by_kind["response.output_audio_transcript.done"]["transcript"] == "Good day."
    response = by_kind["response.done"]["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "Good day."}]
    assert response["usage"]["total_tokens"] == 13 + 8 + 3
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)


def test_a_long_slice_of_audio_leaves_in_deltas_of_64_kib() -> None:
    client = Client()
    pcm = np.arange(120_000, dtype=np.int64).astype("<i2").tobytes()
    events = client.tell(TurnBegan(1, 100, wants_reply=True), ReplyBegan(1), ReplyAudio(1, 0, pcm))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    assert max(map(len, deltas)) <= 65536
    assert b"".join(map(base64.b64decode, deltas)) == pcm


def test_barge_in_ends_the_reply_as_turn_detected() -> None:
    client = Client()
    ids = turn_with_reply(client, ended=False)
    events = client.tell(SpeechBegan(2, 2000), Interrupt(1, 150), ReplyEnded(1, "interrupted", "Well, well."))
    assert kinds(events) == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert events[4]["item"]["status"] == "incomplete"
    response = events[-1]["response"]
    assert response["id"] == ids["response"]
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert (
        client.tell(
            ReplyBegan(1), ReplyText(1, "late"), ReplyAudio(1, 4800, bytes(960)), ReplyEnded(1, "interrupted", "")
        )
        == []
    )
    # The client's own cut comes after the response is done.
    (truncated,) = client.say("conversation.item.truncate", item_id=ids["assistant"], content_index=0, audio_end_ms=150)
    assert client.actions == [Truncate(1, 150)]
    assert truncated["type"] == "conversation.item.truncated"
    (retrieved,) = client.say("conversation.item.retrieve", item_id=ids["assistant"])
    assert retrieved["item"]["content"] == [{"type": "output_audio", "transcript": None}]
    events = client.tell(TurnBegan(2, 700, wants_reply=True), ReplyBegan(2))
    assert events[0]["type"] == "input_audio_buffer.speech_stopped"
    assert events[1]["previous_item_id"] == ids["assistant"]


def test_a_typed_turn() -> None:
    client = Client()
    content = [{"type": "input_text", "text": "What time"}, {"type": "input_text", "text": "is it?"}]
    added, done = client.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    assert kinds([added, done]) == ["conversation.item.added", "conversation.item.done"]
    assert added["previous_item_id"] is None
    assert client.actions == [SetHistory(added["item"]["id"], "user", "What time\nis it?")]
    metadata = {"client_event_id": "abc"}
    options = {"instructions": "Shout.", "metadata": metadata, "output_modalities": ["text"], "max_output_tokens": 77}
    assert client.say("response.create", response=options) == []
    assert client.actions == [RequestReply(ReplyOptions(instructions="Shout.", spoken=False))]
    events = client.tell(
        TurnBegan(1, 0, wants_reply=True),
        ReplyBegan(1),
        ReplyText(1, "LATE"),
        ReplyEnded(1, "completed", "LATE."),
    )
    assert kinds(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    for event in (events[0], events[-1]):
        assert event["response"]["metadata"] == metadata
        assert event["response"]["output_modalities"] == ["text"]
        assert event["response"]["max_output_tokens"] == 77
    assert events[2]["previous_item_id"] == added["item"]["id"]
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "output_text", "text": "LATE."}]


def test_push_to_talk() -> None:
    client = Client()
    updated(client, audio={"input": {"turn_detection": None}})
    error = client.error("input_audio_buffer.commit")
    assert error["code"] == "input_audio_buffer_commit_empty"
    client.append(bytes(4800))
    client.append(bytes(4800))
    assert client.say("input_audio_buffer.commit") == []
    assert client.actions == [Commit(ReplyOptions(wants_reply=False))]
    assert client.error("input_audio_buffer.commit")["code"] == "input_audio_buffer_commit_empty"
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]
    events = client.tell(
        SpeechBegan(1, 0),
        SpeechEnded(1, 200, final=True),
        TurnBegan(1, 200, wants_reply=False),
        TurnBegan(2, 0, wants_reply=True),
        Transcribed(1, "go", final=True),
        ReplyBegan(2),
    )
    assert kinds(events) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
    ]


@pytest.mark.parametrize("outcome", [TurnDropped(1, "nothing"), TurnBegan(1, 0, wants_reply=False)])
def test_a_manual_turn_with_nothing_in_it_is_a_turn_still(outcome: Event) -> None:
    client = Client()
    updated(client, audio={"input": {"turn_detection": None}})
    client.append(bytes(9600))
    client.say("input_audio_buffer.commit")
    events = client.tell(outcome, Transcribed(1, "", final=True))
    assert kinds(events) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
    ]


def test_what_came_before_push_to_talk_is_no_part_of_it() -> None:
    client = Client()
    client.append(bytes(48000))
    updated(client, audio={"input": {"turn_detection": None}})
    assert client.error("input_audio_buffer.commit")["code"] == "input_audio_buffer_commit_empty"
    client.append(bytes(4800))
    updated(client, instructions="Be quick.")
    assert client.say("input_audio_buffer.commit") == []
    assert client.actions == [Commit(ReplyOptions(wants_reply=False))]


def test_clearing_the_buffer_empties_it() -> None:
    client = Client()
    updated(client, audio={"input": {"turn_detection": None}})
    client.append(bytes(9600))
    assert kinds(client.say("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert client.actions == [Clear()]
    assert client.error("input_audio_buffer.commit")["code"] == "input_audio_buffer_commit_empty"


def test_a_needless_commit_under_vad_is_no_error() -> None:
    client = Client()
    client.append(bytes(48000))
    client.tell(SpeechBegan(1, 0), TurnBegan(1, 500, wants_reply=True))
    assert client.say("input_audio_buffer.commit") == []
    assert client.actions == []


def test_a_commit_of_silence_under_vad_changes_nothing_about_later_turns() -> None:
    client = Client()
    client.append(bytes(48000))
    assert client.say("input_audio_buffer.commit") == []
    assert client.actions == []
    assert client.tell(TurnDropped(1, "noise")) == []


def test_a_commit_in_the_middle_of_speech_ends_the_turn_under_vad_too() -> None:
    client = Client()
    client.append(bytes(48000))
    client.tell(SpeechBegan(1, 0))
    client.say("input_audio_buffer.commit")
    assert client.actions == [Commit(ReplyOptions(wants_reply=False))]


def test_speech_that_was_no_turn_ends_without_an_item() -> None:
    client = Client()
    events = client.tell(SpeechBegan(1, 40), Transcribed(1, "uh", final=False), TurnDropped(1, "too short"))
    assert kinds(events) == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
    (started,) = client.tell(SpeechBegan(2, 900))
    assert started["item_id"] != events[0]["item_id"]


def test_speech_that_goes_on_after_a_pause_began_once() -> None:
    events = Client().tell(SpeechBegan(1, 0), SpeechEnded(1, 500, final=False), SpeechBegan(1, 700))
    assert kinds(events) == ["input_audio_buffer.speech_started"]


def test_a_partial_that_takes_words_back_is_not_told() -> None:
    client = Client()
    client.tell(TurnBegan(1, 900, wants_reply=True))
    events = client.tell(
        Transcribed(1, "I want", final=False),
        Transcribed(1, "I won", final=False),
        Transcribed(1, "I won it", final=True),
    )
    assert [event.get("delta", event.get("transcript")) for event in events] == ["I want", "I won it"]


def test_a_transcript_that_came_early_is_told_after_its_item() -> None:
    client = Client()
    assert client.tell(SpeechBegan(1, 0), Transcribed(1, "hi", final=True))[1:] == []
    events = client.tell(TurnBegan(1, 300, wants_reply=False))
    assert kinds(events)[-1] == "conversation.item.input_audio_transcription.completed"


def test_without_transcription_nothing_is_told_of_what_was_heard() -> None:
    client = Client()
    updated(client, audio={"input": {"transcription": None}})
    client.tell(TurnBegan(1, 900, wants_reply=False))
    assert client.tell(Transcribed(1, "I", final=False), Transcribed(1, "I see", final=True)) == []


def test_one_reply_at_a_time() -> None:
    client = Client()
    assert client.error("response.cancel")["code"] == "response_cancel_not_active"
    client.say("response.create")
    error = client.error("response.create")
    assert error["code"] == "conversation_already_has_active_response"
    client.tell(TurnBegan(1, 0, wants_reply=True), ReplyBegan(1))
    assert client.error("response.create")["code"] == "conversation_already_has_active_response"
    assert client.error("response.cancel", response_id="resp_other")["message"].startswith("Cancellation failed")
    assert client.say("response.cancel") == []
    assert client.actions == [CancelReply()]
    (done,) = client.tell(ReplyEnded(1, "cancelled", ""))
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert done["response"]["output"] == []
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]


@pytest.mark.parametrize("numbered", [True, False])
def test_a_reply_that_is_cancelled_before_it_began_is_done_at_once_and_stays_silent(numbered: bool) -> None:
    client = Client()
    client.say("response.create", response={"metadata": {"a": "b"}})
    if numbered:
        client.tell(TurnBegan(1, 0, wants_reply=True))
    created, done = client.say("response.cancel")
    assert client.actions == [CancelReply()]
    assert created["response"]["metadata"] == {"a": "b"}
    assert done["response"]["status"] == "cancelled"
    if not numbered:
        assert client.tell(TurnBegan(1, 0, wants_reply=True)) == []
    assert client.tell(ReplyBegan(1), ReplyText(1, "x"), ReplyEnded(1, "cancelled", "x")) == []
    client.say("response.create", response={"metadata": {"c": "d"}})
    (created,) = client.tell(TurnBegan(2, 0, wants_reply=True), ReplyBegan(2))
    assert created["response"]["metadata"] == {"c": "d"}


def test_a_requested_reply_that_speech_overtakes_is_done_before_the_next_begins() -> None:
    client = Client()
    client.say("response.create")
    client.tell(TurnBegan(1, 0, wants_reply=True))
    events = client.tell(TurnBegan(2, 600, wants_reply=True), ReplyBegan(2))
    assert kinds(events)[-3:] == ["response.created", "response.done", "response.created"]
    assert events[-2]["response"]["status_details"]["reason"] == "turn_detected"
    assert events[-1]["response"]["id"] != events[-2]["response"]["id"]


def test_a_reply_to_a_spoken_turn_is_not_taken_for_the_one_that_was_asked_for() -> None:
    client = Client()
    client.tell(TurnBegan(1, 600, wants_reply=True))
    client.say("response.create", response={"metadata": {"a": "b"}})
    events = client.tell(ReplyBegan(1), ReplyEnded(1, "interrupted", ""), TurnBegan(2, 0, wants_reply=True))
    assert events[0]["response"]["metadata"] is None
    (created,) = client.tell(ReplyBegan(2))
    assert created["response"]["metadata"] == {"a": "b"}


def test_a_failure_is_told_in_the_response_and_not_as_an_error_that_ends_clients() -> None:
    client = Client()
    turn_with_reply(client, ended=False)
    assert client.tell(Failed("tts_failed", "no voice", turn=1)) == []
    done = client.tell(ReplyEnded(1, "failed", "Well, well."))[-1]
    assert done["response"]["status"] == "failed"
    assert done["response"]["status_details"]["error"]["code"] == "tts_failed"
    # Before the reply began:
    client.tell(TurnBegan(2, 600, wants_reply=True))
    events = client.tell(Failed("asr_failed", "no ears", turn=2))
    assert kinds(events) == [
        "conversation.item.input_audio_transcription.failed",
        "response.created",
        "response.done",
    ]
    assert client.tell(ReplyBegan(2), ReplyEnded(2, "failed", ""), Failed("again", "", turn=2)) == []
    client.say("response.create")
    client.tell(TurnBegan(3, 0, wants_reply=True))
    assert kinds(client.tell(Failed("llm_failed", "no idea", turn=3))) == ["response.created", "response.done"]
    # A turn that nobody was to answer:
    client.tell(TurnBegan(4, 600, wants_reply=False))
    received = client.tell(Failed("asr_failed", "no ears", turn=4), ReplyBegan(4), ReplyEnded(4, "failed", ""))
    assert kinds(received) == ["conversation.item.input_audio_transcription.failed"]
    (error,) = client.tell(Failed("broker", "away"))
    assert error["error"]["type"] == "server_error"


def test_a_failure_that_the_agent_tells_is_the_status_of_its_response() -> None:
    client = Client()
    client.tell(TurnBegan(1, 600, wants_reply=True), Transcribed(1, "hello", final=True))
    assert client.tell(Failed("empty_reply", "not a word", turn=1, in_reply=True)) == []
    events = client.tell(
        ReplyBegan(1), ReplyText(1, "Sorry."), ReplyAudio(1, 0, bytes(960)), ReplyEnded(1, "failed", "Sorry.")
    )
    assert kinds(events)[0] == "response.created"
    assert "response.output_audio.delta" in kinds(events)
    response = events[-1]["response"]
    assert (response["status"], response["status_details"]["error"]["code"]) == ("failed", "empty_reply")


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_a_reply_whose_text_ends_early_is_incomplete(reason: str) -> None:
    client = Client()
    turn_with_reply(client, ended=False)
    events = client.tell(ReplyEnded(1, "completed", "Well, well.", reason=reason))
    response = events[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": reason}
    assert [item["status"] for item in response["output"]] == ["incomplete"]


def test_no_words_give_an_empty_response() -> None:
    client = Client()
    created, done = client.tell(ReplyBegan(1), ReplyEnded(1, "empty", ""))
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"] == []
    assert created["response"]["id"] == done["response"]["id"]


def test_two_replies_never_overlap() -> None:
    client = Client()
    turn_with_reply(client, ended=False)
    events = client.tell(ReplyBegan(2))
    assert kinds(events)[-2:] == ["response.done", "response.created"]


def test_what_clients_of_webrtc_send_is_ignored() -> None:
    client = Client()
    assert client.say("output_audio_buffer.clear") == []
    assert client.actions == []
    assert client.tell(Timing(1, {"endpoint": 1.0}), Stats({}), Interrupt(1, 0)) == []
