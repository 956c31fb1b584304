"""Realtime: items of the conversation, and what is refused."""

from typing import Any

import pytest

from services.edge.actions import Audio, RequestReply, Send, SetHistory
from services.edge.protocols.realtime_wire import MAX_APPEND_CHARS
from shared.session import ReplyOptions, ToolCall
from tests.support.realtime_client import Client, kinds, turn_with_reply


def test_a_cut_behind_the_end_cuts_nothing() -> None:
    client = Client()
    ids = turn_with_reply(client)
    (told,) = client.say("conversation.item.truncate", item_id=ids["assistant"], content_index=0, audio_end_ms=5000)
    assert told["audio_end_ms"] == 200
    assert client.actions == []
    (retrieved,) = client.say("conversation.item.retrieve", item_id=ids["assistant"])
    assert retrieved["item"]["content"][0]["transcript"] == "Well, well."
    for wrong in (ids["user"], "nobody", 7, None):
        error = client.error("conversation.item.truncate", item_id=wrong, content_index=0, audio_end_ms=1)
        assert error["code"] == "item_truncate_invalid_item_id"


def test_items_are_put_where_the_client_wants_them() -> None:
    client = Client()

    def create(item_id: str, previous: str | None, role: str = "user") -> tuple[Any, Any]:
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": item_id}]
        item = {"id": item_id, "type": "message", "role": role, "content": content}
        added, _ = client.say("conversation.item.create", item=item, previous_item_id=previous)
        (action,) = client.actions
        return added["previous_item_id"], action

    assert create("b", None) == (None, SetHistory("b", "user", "b", None))
    assert create("a", "root", "system") == (None, SetHistory("a", "system", "a", ""))
    assert create("c", "a", "assistant") == ("a", SetHistory("c", "assistant", "c", "a"))
    assert create("d", None) == ("b", SetHistory("d", "user", "d", None))
    ids = turn_with_reply(client)
    assert create("e", ids["assistant"]) == (ids["assistant"], SetHistory("e", "user", "e", "reply:1"))
    assert create("f", ids["user"]) == (ids["user"], SetHistory("f", "user", "f", "user:1"))
    text = [{"type": "input_text", "text": "x"}]
    again = {"id": "b", "type": "message", "role": "user", "content": text}
    assert client.error("conversation.item.create", item=again)["code"] == "item_create_duplicate_item_id"
    lost = {"type": "message", "role": "user", "content": text}
    error = client.error("conversation.item.create", item=lost, previous_item_id="nobody")
    assert error["param"] == "previous_item_id"
    (deleted,) = client.say("conversation.item.delete", item_id=ids["user"])
    assert deleted["item_id"] == ids["user"]
    assert client.actions == [SetHistory("user:1", "", "")]
    assert client.error("conversation.item.delete", item_id=ids["user"])["code"] == "item_delete_invalid_item_id"
    assert client.error("conversation.item.retrieve", item_id="zz")["code"] == "item_retrieve_invalid_item_id"


def test_a_call_and_its_result_that_a_client_puts_in_are_told_to_the_model() -> None:
    client = Client()
    call = {"id": "c", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    client.say("conversation.item.create", item=call)
    assert client.actions == [SetHistory("c", "assistant", "", calls=(ToolCall("call_1", "weather", "{}"),))]
    result = {"id": "r", "type": "function_call_output", "call_id": "call_1", "output": "rain"}
    assert kinds(client.say("conversation.item.create", item=result))[0] == "conversation.item.added"
    assert client.actions == [SetHistory("r", "tool", "rain", answers="call_1")]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (None, "item"),
        ({}, "item.type"),
        ({"type": "mcp_call"}, "item.type"),
        ({"id": "", "type": "message"}, "item.id"),
        ({"type": "message", "role": "robot"}, "item.role"),
        ({"type": "message", "role": "user"}, "item.content"),
        ({"type": "message", "role": "user", "content": []}, "item.content"),
        ({"type": "message", "role": "user", "content": ["x"]}, "item.content[0]"),
        ({"type": "message", "role": "user", "content": [{"type": "input_image"}]}, "item.content[0].type"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content[0].text"),
        ({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AA=="}]}, "item.content[0]"),
        ({"type": "function_call", "name": 1}, "item.name"),
        ({"type": "function_call_output", "call_id": "x"}, "item.output"),
    ],
)
def test_a_wrong_item_is_refused_by_its_field(item: Any, param: str) -> None:
    assert Client().error("conversation.item.create", item=item)["param"] == param


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ([], "response"),
        ({"conversation": "none"}, "response.conversation"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "response.input"),
        ({"output_modalities": ["video"]}, "response.output_modalities"),
        ({"instructions": 5}, "response.instructions"),
        ({"metadata": {"a": 1}}, "response.metadata"),
        ({"max_output_tokens": -1}, "response.max_output_tokens"),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_none_open(options: Any, param: str) -> None:
    client = Client()
    assert client.error("response.create", response=options)["param"] == param
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]


@pytest.mark.parametrize(
    "audio", [None, 7, "", "AAA", "A===", "no base64!", "ÄÄÄÄ", "AAAA", "A" * (MAX_APPEND_CHARS + 4)]
)
def test_audio_that_is_none_is_refused_and_the_session_goes_on(audio: Any) -> None:
    client = Client()
    error = client.error("input_audio_buffer.append", audio=audio)
    assert (error["type"], error["param"]) == ("invalid_request_error", "audio")
    client.append(bytes(480))
    assert client.actions == [Audio(bytes(480))]


@pytest.mark.parametrize(
    "message", ["", "{", "[]", "3", '"x"', "{}", '{"type":7}', '{"type":["x"]}', '{"type":"x"}', b"\0\0"]
)
def test_what_is_no_event_is_answered(message: str | bytes) -> None:
    (action,) = (client := Client()).codec.decode(message)
    assert isinstance(action, Send)
    assert kinds(client._read(list(action.messages))) == ["error"]
