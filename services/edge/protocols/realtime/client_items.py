"""The items that a Realtime client may put into the conversation. Pure."""

from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from services.edge.protocols.fields import STRING_TYPE, Allowed, BadField, array, text
from services.edge.protocols.realtime.items import Item
from services.edge.protocols.realtime.wire import Refused
from services.edge.protocols.session_settings import Instructions

MAX_OUTPUT_BYTES = 256 * 1024
"""The answer of one tool."""

_PARTS = {
    "user": ("input_text", "input_audio"),
    "system": ("input_text",),
    "assistant": ("output_text", "output_audio", "text"),
}
"""The content parts that a message of each role may have."""


def _check_output(output: str) -> str:
    if len(output.encode()) > MAX_OUTPUT_BYTES:
        raise ValueError
    return output


Id = Annotated[str, text(128)]
Output = Annotated[
    str,
    Field(max_length=MAX_OUTPUT_BYTES),
    AfterValidator(_check_output),
    Allowed(f"a string of at most {MAX_OUTPUT_BYTES} bytes"),
]


class TextPart(TypedDict):
    """Written words in a message."""

    type: Literal["input_text", "output_text", "text"]
    text: Instructions


class OutputAudioPart(TypedDict):
    """Words that the agent said."""

    type: Literal["output_audio"]
    transcript: Instructions


class InputAudioPart(TypedDict, total=False):
    """Words that the person said."""

    type: Required[Literal["input_audio"]]
    transcript: Instructions | None


class _ClientItem(TypedDict, total=False):
    id: Annotated[str, Allowed("an id of 1 to 128 characters", min_length=1, max_length=128)] | None


class Message(_ClientItem):
    type: Required[Literal["message"]]
    role: Required[Literal["user", "system", "assistant"]]
    content: Required[
        Annotated[
            list[Annotated[TextPart | OutputAudioPart | InputAudioPart, Field(discriminator="type"), STRING_TYPE]],
            array(1, 64, "parts"),
        ]
    ]


class FunctionCall(_ClientItem, total=False):
    type: Required[Literal["function_call"]]
    name: Required[Id]
    call_id: Id | None
    arguments: Required[Instructions]


class FunctionCallOutput(_ClientItem):
    type: Required[Literal["function_call_output"]]
    call_id: Required[Id]
    output: Required[Output]


ClientItem = Annotated[Message | FunctionCall | FunctionCallOutput, Field(discriminator="type"), STRING_TYPE]
"""An item as a client may send it."""


def client_item(given: ClientItem, new_id: str) -> Item:
    """A client's item as it is sent back: complete, and of known fields only.

    Raises:
        BadField: a kind of content that does not belong to the role.
        Refused: audio without its transcript.
    """
    item: Item = {**given, "id": given.get("id") or new_id, "object": "realtime.item", "status": "completed"}
    if given["type"] == "message":
        item["content"] = [
            _part(part, given["role"], f"item.content[{index}]") for index, part in enumerate(given["content"])
        ]
    elif given["type"] == "function_call" and given.get("call_id") is None:
        item["call_id"] = item["id"]
    return item


def _part(part: TextPart | OutputAudioPart | InputAudioPart, role: str, path: str) -> dict[str, Any]:
    kinds = _PARTS[role]
    if part["type"] not in kinds:
        raise BadField.of(f"{path}.type", part["type"], f"one of {', '.join(kinds)} in a message of the {role}")
    if part["type"] == "input_audio" and not part.get("transcript"):
        message = "Audio in conversation.item.create is not supported without its transcript."
        raise Refused(message, "unsupported_content", path)
    return {**part, "type": "output_text" if part["type"] == "text" else part["type"]}


def words_of(item: Item) -> str:
    return "\n".join(part["transcript"] if "transcript" in part else part["text"] for part in item["content"])
