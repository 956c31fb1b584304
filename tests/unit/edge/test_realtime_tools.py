"""Realtime: tools that a client declares, calls that it receives, and its answers."""

import json
from typing import Any

import pytest

from services.edge.client.actions import RequestReply, SetHistory
from services.edge.client.events import ReplyBegan, ReplyEnded, ReplyText, TurnBegan
from services.edge.protocols.realtime.client_items import MAX_OUTPUT_BYTES
from services.edge.protocols.realtime.tools import MAX_SCHEMA_BYTES, MAX_TOOLS
from shared.protocol.session import ReplyOptions, Tool, ToolCall
from tests.support.realtime_client import Client, kinds, turn_with_reply, updated

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "description": "Tells it.", "parameters": SCHEMA}
CALL = ToolCall("call_1", "weather", '{"city":"Bonn"}')


def called(client: Client, *calls: ToolCall, text: str = "") -> list[dict[str, Any]]:
    """A reply that asks for tools."""
    return client.tell(
        TurnBegan(1, 0, wants_reply=True),
        ReplyBegan(1),
        *([ReplyText(1, text)] if text else []),
        ReplyEnded(1, "completed", text, calls or (CALL,)),
    )


def output(client: Client, text: Any = "rain", call_id: Any = "call_1", **item: Any) -> list[dict[str, Any]]:
    item = {"type": "function_call_output", "call_id": call_id, "output": text, **item}
    return client.say("conversation.item.create", item=item)


def test_tools_become_settings_and_are_told_back() -> None:
    client = Client()
    bare = {"type": "function", "name": "clock"}
    echo, settings = updated(client, tools=[WEATHER, bare], tool_choice="required")
    assert echo["tools"] == [WEATHER, bare]
    weather, clock = settings.tools
    assert (weather.name, weather.description, json.loads(weather.parameters)) == ("weather", "Tells it.", SCHEMA)
    assert (clock.name, clock.description, json.loads(clock.parameters)["type"]) == ("clock", "", "object")
    assert settings.tool_choice == "required"
    _, settings = updated(client, tool_choice={"type": "function", "name": "clock"})
    assert settings.tool_choice == "clock"
    assert len(settings.tools) == 2
    _, settings = updated(client, tools=[])
    assert settings.tools == ()


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"tools": "weather"}, "session.tools"),
        ({"tools": {"weather": WEATHER}}, "session.tools"),
        ({"tools": [{**WEATHER, "name": f"t{n}"} for n in range(MAX_TOOLS + 1)]}, "session.tools"),
        ({"tools": ["weather"]}, "session.tools[0]"),
        ({"tools": [{}]}, "session.tools[0].type"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "session.tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "weather"}}]}, "session.tools[0].name"),
        ({"tools": [{**WEATHER, "name": ""}]}, "session.tools[0].name"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, "session.tools[0].name"),
        ({"tools": [{**WEATHER, "name": "x" * 65}]}, "session.tools[0].name"),
        ({"tools": [{**WEATHER, "name": "none"}]}, "session.tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "session.tools[1].name"),
        ({"tools": [{**WEATHER, "description": 7}]}, "session.tools[0].description"),
        ({"tools": [{**WEATHER, "parameters": "{}"}]}, "session.tools[0].parameters"),
        ({"tools": [{**WEATHER, "parameters": {"x": "y" * MAX_SCHEMA_BYTES}}]}, "session.tools[0].parameters"),
        (
            {"tools": [{**WEATHER, "name": f"t{n}", "parameters": {"x": "y" * 60_000}} for n in range(20)]},
            "session.tools",
        ),
        ({"tool_choice": 1}, "session.tool_choice"),
        ({"tool_choice": ["auto"]}, "session.tool_choice"),
        ({"tool_choice": {"type": "mcp"}}, "session.tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "session.tool_choice.name"),
    ],
)
def test_wrong_tools_are_named_and_change_nothing(session: Any, param: str) -> None:
    client = Client()
    assert client.error("session.update", session={"type": "realtime", **session})["param"] == param
    _, settings = updated(client)
    assert (settings.tools, settings.tool_choice) == ((), "auto")


def test_as_many_and_as_large_tools_as_are_allowed() -> None:
    schema = {"x": "y" * (MAX_SCHEMA_BYTES - 8)}
    _, settings = updated(Client(), tools=[{**WEATHER, "parameters": schema}])
    assert len(settings.tools[0].parameters) == MAX_SCHEMA_BYTES
    _, settings = updated(Client(), tools=[{**WEATHER, "name": f"t{n}"} for n in range(MAX_TOOLS)])
    assert len(settings.tools) == MAX_TOOLS


def test_a_schema_that_is_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"x": deep}
    error = Client().error("session.update", session={"tools": [{**WEATHER, "parameters": deep}]})
    assert error["param"] == "session.tools[0].parameters"


@pytest.mark.parametrize(
    ("response", "options"),
    [
        ({"tools": [WEATHER]}, ReplyOptions(tools=(Tool("weather", "Tells it.", json.dumps(SCHEMA, separators=(",", ":"))),))),
        ({"tools": []}, ReplyOptions(tool_choice="none")),
        ({"tools": [], "tool_choice": "auto"}, ReplyOptions(tool_choice="none")),
        ({"tool_choice": "none"}, ReplyOptions(tool_choice="none")),
        ({"tool_choice": {"type": "function", "name": "weather"}}, ReplyOptions(tool_choice="weather")),
        ({"tools": None, "tool_choice": None}, ReplyOptions()),
    ],
)  # fmt: skip
def test_a_response_may_have_tools_of_its_own(response: Any, options: ReplyOptions) -> None:
    client = Client()
    client.say("response.create", response=response)
    assert client.actions == [RequestReply(options)]


@pytest.mark.parametrize(
    ("response", "param"),
    [({"tools": [{}]}, "response.tools[0].type"), ({"tool_choice": "some"}, "response.tool_choice")],
)
def test_wrong_tools_of_a_response_leave_none_open(response: Any, param: str) -> None:
    client = Client()
    assert client.error("response.create", response=response)["param"] == param
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]


def test_a_call_is_an_item_of_the_response_after_what_is_said() -> None:
    client = Client()
    client.say("session.update", session={"output_modalities": ["text"]})
    second = ToolCall("call_2", "clock", "")
    events = called(client, CALL, second, text="Let me see.")
    argument_kinds = [f"response.function_call_arguments.{step}" for step in ("delta", "done")]
    item_begins, item_ends = ["response.output_item.added", "conversation.item.added"], [
        "response.output_item.done",
        "conversation.item.done",
    ]  # fmt: skip
    assert kinds(events) == [
        "response.created",
        *item_begins,
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        *item_ends,
        *item_begins,
        *argument_kinds,
        *item_ends,
        *item_begins,
        argument_kinds[1],
        *item_ends,
        "response.done",
    ]
    response = events[-1]["response"]
    message, call, other = response["output"]
    assert (message["type"], call["type"], other["name"]) == ("message", "function_call", "clock")
    assert (call["call_id"], call["name"], call["arguments"]) == ("call_1", "weather", CALL.arguments)
    assert call["status"] == "completed"
    begun, added, delta, done, ended, kept = events[9:15]
    assert begun["item"] == added["item"] == {**call, "status": "in_progress", "arguments": ""}
    assert added["previous_item_id"] == kept["previous_item_id"] == message["id"]
    assert ended["item"] == kept["item"] == call
    assert delta["delta"] == done["arguments"] == CALL.arguments
    places = {(e["item_id"], e["output_index"], e["response_id"], e["call_id"]) for e in (delta, done)}
    assert places == {(call["id"], 1, response["id"], "call_1")}
    assert (begun["output_index"], events[15]["output_index"]) == (1, 2)
    (retrieved,) = client.say("conversation.item.retrieve", item_id=call["id"])
    assert retrieved["item"] == call
    assert response["usage"]["output_tokens"] > 3


def test_a_response_may_be_a_call_alone() -> None:
    events = called(Client())
    assert kinds(events)[:2] == ["response.created", "response.output_item.added"]
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["function_call"]
    assert events[1]["output_index"] == 0


def test_an_answer_goes_into_the_conversation_and_then_a_reply_may_be_asked_for() -> None:
    client = Client()
    events = called(client)
    added, done = output(client, id="r")
    assert (added["type"], done["type"]) == ("conversation.item.added", "conversation.item.done")
    assert added["previous_item_id"] == events[-1]["response"]["output"][0]["id"]
    assert client.actions == [SetHistory("r", "tool", "rain", answers="call_1")]
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]
    events = client.tell(TurnBegan(2, 0, wants_reply=True), ReplyBegan(2), ReplyText(2, "It rains."))
    assert kinds(events)[0] == "response.created"


def test_a_reply_to_an_answer_that_is_given_up_before_it_begins_leaves_none_open() -> None:
    client = Client()
    called(client)
    output(client)
    client.say("response.create")
    events = client.tell(TurnBegan(2, 0, wants_reply=True), ReplyEnded(2, "interrupted", ""))
    assert kinds(events) == ["response.created", "response.done"]
    assert events[-1]["response"]["status"] == "cancelled"
    client.say("response.create")
    assert client.actions == [RequestReply(ReplyOptions())]


def test_answers_that_are_late_doubled_empty_or_to_another_reply_are_taken() -> None:
    client = Client()
    called(client)
    turn_with_reply(client, 2)
    for text in ("rain", "snow", ""):
        output(client, text)
        (action,) = client.actions
        assert isinstance(action, SetHistory)
        assert (action.role, action.text, action.answers) == ("tool", text, "call_1")


@pytest.mark.parametrize("call_id", ["call_2", "", "weather"])
def test_an_answer_to_a_call_that_was_never_made_is_refused(call_id: str) -> None:
    client = Client()
    called(client)
    client.tell(TurnBegan(2, 0, wants_reply=True), ReplyBegan(2), ReplyEnded(2, "interrupted", ""))
    item = {"type": "function_call_output", "call_id": call_id, "output": "rain"}
    error = client.error("conversation.item.create", item=item)
    assert (error["code"], error["param"]) == ("item_create_invalid_call_id", "item.call_id")


def test_an_answer_to_a_deleted_call_is_refused() -> None:
    client = Client()
    (call,) = called(client)[-1]["response"]["output"]
    client.say("conversation.item.delete", item_id=call["id"])
    assert client.actions == [SetHistory("call:call_1", "", "")]
    item = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    assert client.error("conversation.item.create", item=item)["param"] == "item.call_id"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"output": "x" * (MAX_OUTPUT_BYTES + 1)}, "item.output"),
        ({"output": "ä" * (MAX_OUTPUT_BYTES // 2 + 1)}, "item.output"),
        ({"output": {"rain": True}}, "item.output"),
        ({"output": None}, "item.output"),
        ({"call_id": None}, "item.call_id"),
        ({"call_id": "x" * 1000}, "item.call_id"),
    ],
)
def test_a_wrong_or_huge_answer_is_named_and_the_next_is_taken(item: Any, param: str) -> None:
    client = Client()
    called(client)
    wrong = {"type": "function_call_output", "call_id": "call_1", "output": "rain", **item}
    assert client.error("conversation.item.create", item=wrong)["param"] == param
    assert kinds(output(client, "x" * MAX_OUTPUT_BYTES)) == ["conversation.item.added", "conversation.item.done"]


def test_a_call_cannot_be_truncated() -> None:
    client = Client()
    (call,) = called(client)[-1]["response"]["output"]
    error = client.error("conversation.item.truncate", item_id=call["id"], content_index=0, audio_end_ms=1)
    assert error["code"] == "item_truncate_invalid_item_id"
