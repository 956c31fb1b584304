"""Realtime: items of the conversation, and what is refused."""

import json
from typing import Any

import pytest

from services.edge.client.actions import Audio, RequestReply, Send, SetHistory
from services.edge.protocols.realtime.codec import MAX_EVENT_CHARS
from services.edge.protocols.realtime.items import MAX_CLIENT_BYTES, MAX_CLIENT_ITEMS
from services.edge.protocols.realtime.wire import MAX_APPEND_CHARS
from shared.protocol.session import ReplyOptions, ToolCall
from tests.support.realtime_client import Client, kinds, replies, turn_with_reply, updated


def test_a_cut_behind_the_end_cuts_nothing() -> None:
    client = Client()
    ids = turn_with_reply(client)
    (received,) = client.say("conversation.item.truncate", item_id=ids["assistant"], content_index=0, audio_end_ms=5000)
    assert received["audio_end_ms"] == 200
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


@pytest.mark.parametrize("audio", [None, 7, "", "AAA", "A===", "no base64!", "ÄÄÄÄ", "A" * (MAX_APPEND_CHARS + 4)])
def test_audio_that_is_none_is_refused_and_the_session_goes_on(audio: Any) -> None:
    client = Client()
    error = client.error("input_audio_buffer.append", audio=audio)
    assert (error["type"], error["param"]) == ("invalid_request_error", "audio")
    client.append(bytes(480))
    assert client.actions == [Audio(bytes(480))]


@pytest.mark.parametrize("sizes", [(961, 961, 958), (1, 1, 2878), (3, 5, 7, 2865)])
def test_audio_that_is_cut_within_samples_is_joined(sizes: tuple[int, ...]) -> None:
    client, pcm, heard, start = Client(), bytes(range(240)) * 12, b"", 0
    for size in sizes:
        client.append(pcm[start : start + size])
        heard += b"".join(action.pcm for action in client.actions if isinstance(action, Audio))
        start += size
    assert heard == pcm


def test_half_a_sample_does_not_outlive_the_buffer() -> None:
    client = Client()
    client.append(b"\1")
    client.say("input_audio_buffer.clear")
    client.append(b"\2\3")
    assert client.actions[-1] == Audio(b"\2\3")


@pytest.mark.parametrize(
    "message", ["", "{", "[]", "3", '"x"', "{}", '{"type":7}', '{"type":["x"]}', '{"type":"x"}', b"\0\0"]
)
def test_what_is_no_event_is_answered(message: str | bytes) -> None:
    (action,) = (client := Client()).codec.decode(message)
    assert isinstance(action, Send)
    assert kinds(client._read(list(action.messages))) == ["error"]


def test_an_event_that_is_huge_is_refused_and_the_session_goes_on() -> None:
    client = Client()
    error = client.error("session.update", session={"prompt": "x" * MAX_EVENT_CHARS})
    assert (error["code"], error["param"]) == ("string_above_max_length", None)
    assert len(error["message"]) < 100
    updated(client)


def test_the_items_of_a_client_are_limited_and_a_deleted_one_makes_room() -> None:
    client = Client()

    def create(item_id: str) -> list[dict[str, Any]]:
        content = [{"type": "input_text", "text": "x" * 32_000}] * 60
        item = {"id": item_id, "type": "message", "role": "user", "content": content}
        return replies(client.codec.decode(json.dumps({"type": "conversation.item.create", "item": item})))

    kept = 0
    while kinds(answers := create(f"item{kept}")) != ["error"]:
        kept += 1
    assert answers[0]["error"]["code"] == "conversation_full"
    assert (kept - 1) * 60 * 32_000 < MAX_CLIENT_BYTES < (kept + 1) * 60 * 33_000
    assert create("another")[0]["error"]["code"] == "conversation_full"
    client.say("conversation.item.delete", item_id="item0")
    assert kinds(create("another")) == ["conversation.item.added", "conversation.item.done"]


def test_a_client_can_create_and_delete_items_for_ever() -> None:
    client = Client()
    item = {"id": "a", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    create, delete = (
        json.dumps({"type": "conversation.item.create", "item": item}),
        '{"type":"conversation.item.delete","item_id":"a"}',
    )
    for _ in range(MAX_CLIENT_ITEMS + 1):
        client.codec.decode(create)
        client.codec.decode(delete)
    assert kinds(client.say("conversation.item.create", item=item)) == [
        "conversation.item.added",
        "conversation.item.done",
    ]


def test_a_client_can_keep_so_many_items_and_no_more() -> None:
    client = Client()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    create = json.dumps({"type": "conversation.item.create", "item": item})
    for _ in range(MAX_CLIENT_ITEMS):
        client.codec.decode(create)
    assert client.error("conversation.item.create", item=item)["code"] == "conversation_full"
