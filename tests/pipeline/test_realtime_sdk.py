"""The official OpenAI SDK, unchanged, holds conversations with the whole system."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.audio.pcm import decode_law, encode_law
from tests.support.realtime_talk import TAIL_S, talking
from tests.support.system import SCRIPTED, System, running_system

Speech = Callable[[str, int], bytes]

TRANSCRIPT = "hello there"
TRANSCRIPTION = "conversation.item.input_audio_transcription"


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    return speech_pcm("hello there how are you today my friend", 24_000)


async def test_a_spoken_turn_in_the_order_that_the_api_promises(parley_server: System, words: bytes) -> None:
    async with talking(parley_server.url) as talk:
        await talk.speak(words)
        await talk.until("response.done")
        kinds = talk.kinds()
        assert kinds[:7] == [
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            *([f"{TRANSCRIPTION}.delta"] if f"{TRANSCRIPTION}.delta" in kinds else [f"{TRANSCRIPTION}.completed"]),
        ]
        reply = kinds[kinds.index("response.created") :]
        deltas = {"response.output_audio_transcript.delta", "response.output_audio.delta"}
        assert [kind for kind in reply if kind not in deltas and not kind.startswith(TRANSCRIPTION)] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        assert reply.index("response.content_part.added") < min(reply.index(kind) for kind in deltas)
        (heard,) = talk.of(f"{TRANSCRIPTION}.completed")
        assert heard.transcript == TRANSCRIPT
        users = {event.item_id for event in talk.events if event.type.startswith("input_audio_buffer")}
        assert users == {heard.item_id}
        (done,) = talk.of("response.done")
        assert done.response.status == "completed"
        (message,) = done.response.output
        deltas_text = "".join(event.delta for event in talk.of("response.output_audio_transcript.delta"))
        assert message.content[0].transcript == deltas_text
        assert deltas_text.startswith("This is a scripted reply")
        assert len(talk.sound()) == 2 * 24_000  # the scripted second, to the sample


async def test_speech_during_the_reply_cancels_it_and_is_answered(words: bytes) -> None:
    # A reply that is long, and sent but shortly before it sounds: else it is done before anyone can speak into it.
    slow = {**SCRIPTED, "PARLEY_SCRIPTED_TTS_SECONDS": "6", "PARLEY_REPLY_AHEAD_S": "0.3"}
    async with running_system(slow) as server, talking(server.url) as talk:
        await talk.speak(words)
        first = talk.events[await talk.until("response.output_audio.delta")]
        mark = len(talk.events)
        await talk.speak(words)
        done = await talk.until("response.done", mark)
        started = await talk.until("input_audio_buffer.speech_started", mark)
        # The silence and its cause arrive together, in either order.
        ending = talk.events[min(started, done - 5) : max(started, done) + 1]
        assert [event.type for event in ending if event.type != "input_audio_buffer.speech_started"] == [
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        response = talk.events[done].response
        assert response.id == first.response_id
        assert (response.status, response.status_details.reason) == ("cancelled", "turn_detected")
        (item,) = response.output
        assert item.status == "incomplete"
        # The client cuts what was not played, after the response is done.
        await talk.connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=200)
        truncated = talk.events[await talk.until("conversation.item.truncated", mark)]
        assert truncated.item_id == item.id
        second = talk.events[await talk.until("response.created", mark)].response.id
        answer = talk.events[await talk.until("response.output_audio.delta", done)]
        assert answer.response_id == second != first.response_id
        assert not [event for event in talk.of("response.output_audio.delta", done) if event.response_id != second]
        assert not talk.of("error")


async def test_push_to_talk(parley_server: System, words: bytes) -> None:
    async with talking(parley_server.url) as talk:
        await talk.connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        updated = talk.events[await talk.until("session.updated")]
        assert updated.session.audio.input.turn_detection is None
        await talk.speak(words)
        assert talk.kinds() == ["session.created", "session.updated"]
        await talk.connection.input_audio_buffer.commit()
        await talk.connection.response.create()
        await talk.until("response.done")
        kinds = talk.kinds()
        assert kinds[2:5] == ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
        assert kinds.index(f"{TRANSCRIPTION}.completed") < kinds.index("response.created")
        assert talk.of("response.done")[0].response.status == "completed"
        assert len(talk.sound()) == 2 * 24_000
        assert not talk.of("error")


async def test_a_typed_turn(parley_server: System) -> None:
    async with talking(parley_server.url) as talk:
        await talk.connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What time is it?"}]}
        )
        item = talk.events[await talk.until("conversation.item.done")].item
        await talk.connection.response.create(response={"output_modalities": ["text"], "metadata": {"asked": "once"}})
        done = talk.events[await talk.until("response.done")]
        assert done.response.status == "completed"
        assert done.response.metadata == {"asked": "once"}
        assert talk.of("response.created")[0].response.metadata == {"asked": "once"}
        text = "".join(event.delta for event in talk.of("response.output_text.delta"))
        assert done.response.output[0].content[0].text == text
        assert text.startswith("This is a scripted reply")
        assert talk.sound() == b""
        added = talk.of("conversation.item.added")
        assert [event.previous_item_id for event in added] == [None, item.id]


async def test_a_tool_is_called_after_a_spoken_turn_and_its_answer_is_spoken(words: bytes) -> None:
    env = {
        **SCRIPTED,
        "PARLEY_LLM_ENGINE": "tests.support.engines:ToolModel",
        "PARLEY_SCRIPTED_TRANSCRIPT": "what is the weather",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    weather = {
        "type": "function",
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    async with running_system(env) as server, talking(server.url) as talk:
        await talk.connection.session.update(
            session={"type": "realtime", "tools": [weather], "tool_choice": "auto"}  # type: ignore[list-item]
        )
        updated = talk.events[await talk.until("session.updated")]
        assert updated.session.tools[0].name == "weather"
        await talk.speak(words)
        done = await talk.until("response.done")
        message, call = talk.events[done].response.output
        assert message.content[0].transcript == "Let me see."
        assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "Bonn"}')
        committed = await talk.until("input_audio_buffer.committed")
        asked = await talk.until("response.function_call_arguments.done")
        assert committed < asked
        assert talk.events[asked].call_id == call.call_id
        assert [event.type for event in talk.events[done - 8 : done + 1]] == [
            "response.output_item.done",
            "conversation.item.done",
            "response.output_item.added",
            "conversation.item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        # An answer to no call is refused, and the session goes on.
        wrong = {"type": "function_call_output", "call_id": "nobody's", "output": "snow"}
        await talk.connection.conversation.item.create(item=wrong)  # type: ignore[arg-type]
        assert talk.events[await talk.until("error")].error.param == "item.call_id"
        right = {"type": "function_call_output", "call_id": call.call_id, "output": "it rains"}
        await talk.connection.conversation.item.create(item=right)  # type: ignore[arg-type]
        await talk.connection.response.create()
        answered = talk.events[await talk.until("response.done", done + 1)].response
        assert (answered.status, answered.output[0].content[0].transcript) == ("completed", "I hear that it rains.")
        # The next call has an id of its own.
        user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And the weather now?"}]}
        await talk.connection.conversation.item.create(item=user)  # type: ignore[arg-type]
        mark = len(talk.events)
        await talk.connection.response.create()
        await talk.until("response.done", mark)
        calls = {event.call_id for event in talk.of("response.function_call_arguments.done")}
        assert len(calls) == 2
        assert len(talk.of("error")) == 1


async def test_the_sound_of_a_telephone(parley_server: System, speech_pcm: Speech) -> None:
    law = {"type": "audio/pcmu"}
    async with talking(parley_server.url) as talk:
        await talk.connection.send(
            {
                "type": "session.update",
                "session": {"type": "realtime", "audio": {"input": {"format": law}, "output": {"format": law}}},
            }  # type: ignore[arg-type] # pieces of it stand in a variable
        )
        await talk.until("session.updated")
        speech = speech_pcm("hello there how are you today my friend", 8000)
        await talk.play(encode_law("ulaw", speech + bytes(int(16_000 * TAIL_S))), 8)
        await talk.until("response.done")
        assert talk.of(f"{TRANSCRIPTION}.completed")[0].transcript == TRANSCRIPT
        assert len(decode_law("ulaw", talk.sound())) == 2 * 8000


async def test_what_is_wrong_is_answered_and_the_session_goes_on(parley_server: System) -> None:
    async with talking(parley_server.url) as talk:
        await talk.connection.input_audio_buffer.append(audio="no base64!", event_id="mine")
        error = talk.events[await talk.until("error")].error
        assert (error.type, error.param, error.event_id) == ("invalid_request_error", "audio", "mine")
        await talk.connection.response.cancel()
        place = await talk.until("error", 2)
        assert talk.events[place].error.code == "response_cancel_not_active"
        await talk.connection.session.update(session={"type": "realtime", "instructions": "Go on."})
        await talk.until("session.updated")
