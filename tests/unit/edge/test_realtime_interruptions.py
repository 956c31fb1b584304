"""Speech into a reply for a Realtime client: cancelled at once; after a false interruption, a response with the rest."""

from services.edge.client.actions import CancelReply, Truncate
from services.edge.client.events import (
    IdlePassed,
    Interrupt,
    Pause,
    ReplyAudio,
    ReplyBegan,
    ReplyEnded,
    ReplyText,
    Resume,
    SpeechBegan,
    TurnDropped,
)
from tests.support.realtime_client import Client, kinds, turn_with_reply, updated


def test_a_cough_cancels_the_response_and_the_rest_is_another() -> None:
    client = Client()
    ids = turn_with_reply(client, ended=False)
    (started,) = client.tell(SpeechBegan(2, 5000))
    assert started["type"] == "input_audio_buffer.speech_started"
    done = client.tell(Pause(1, 120))[-1]
    assert (done["type"], done["response"]["id"]) == ("response.done", ids["response"])
    assert (done["response"]["status"], done["response"]["status_details"]["reason"]) == ("cancelled", "turn_detected")
    client.say("conversation.item.truncate", item_id=ids["assistant"], content_index=0, audio_end_ms=120)
    assert client.actions == [Truncate(1, 120)]
    rest = client.tell(Resume(1, 120, "well."), ReplyAudio(1, 2880, bytes(4800)))
    assert kinds(rest)[0] == "response.created"
    assert rest[0]["response"]["id"] != ids["response"]
    added = next(event["item"]["id"] for event in rest if event["type"] == "conversation.item.added")
    transcript = [event["delta"] for event in rest if event["type"] == "response.output_audio_transcript.delta"]
    assert transcript == ["well."]
    assert "response.output_audio.delta" in kinds(rest)
    client.tell(TurnDropped(2, "noise"))
    ended = client.tell(ReplyText(1, " Indeed."), ReplyEnded(1, "completed", "Well, well. Indeed."))
    assert ended[-1]["response"]["status"] == "completed"
    client.say("conversation.item.truncate", item_id=added, content_index=0, audio_end_ms=50)
    assert client.actions == [Truncate(1, 170)]  # of the reply, from its beginning


def test_words_after_the_pause_tell_the_client_nothing_new() -> None:
    client = Client()
    turn_with_reply(client, ended=False)
    client.tell(Pause(1, 120))
    assert client.tell(Interrupt(1, 120, "Well,"), ReplyEnded(1, "interrupted", "Well, well.")) == []
    assert kinds(client.tell(ReplyBegan(2))) == ["response.created"]


def test_a_reply_that_was_all_sent_goes_on_in_a_response_of_its_own() -> None:
    client = Client()
    turn_with_reply(client)
    assert client.tell(Pause(1, 120)) == []
    events = client.tell(
        Resume(1, 120, "well."), ReplyAudio(1, 2880, bytes(4800)), ReplyEnded(1, "completed", "Well, well.")
    )
    assert kinds(events).count("response.created") == kinds(events).count("response.done") == 1


def test_a_client_can_cancel_a_reply_that_is_paused() -> None:
    client = Client()
    turn_with_reply(client, ended=False)
    client.tell(Pause(1, 120))
    assert client.say("response.cancel") == []
    assert client.actions == [CancelReply()]
    assert client.error("response.cancel")["code"] == "response_cancel_not_active"


def test_detection_by_silence_is_the_constant_and_may_ask_who_is_there() -> None:
    client = Client()
    detection = {"type": "server_vad", "silence_duration_ms": 700, "idle_timeout_ms": 6000}
    _, settings = updated(client, audio={"input": {"turn_detection": detection}})
    assert (settings.adapt_endpoint, settings.endpoint_ms, settings.idle_ms, settings.idle_prompt) == (
        False,
        700,
        6000,
        "",
    )
    (event,) = client.tell(IdlePassed(1000, 7000))
    assert event["type"] == "input_audio_buffer.timeout_triggered"
    assert (event["audio_start_ms"], event["audio_end_ms"]) == (1000, 7000)
