"""The events that a Realtime client may send, but for `input_audio_buffer.append`, which the codec reads itself. Pure.

Unknown fields are ignored. Ids are of any type here: an id that names nothing has its own error.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from services.edge.protocols.fields import STRING_TYPE, Allowed, whole
from services.edge.protocols.realtime.client_items import ClientItem
from services.edge.protocols.realtime.session_update import MaxOutputTokens, Modalities
from services.edge.protocols.realtime.tools import ToolChoice, Tools
from services.edge.protocols.session_settings import Instructions


class SessionUpdate(BaseModel):
    type: Literal["session.update"]
    session: Any = None
    """`SessionObject` checks it: what is allowed depends on what the session is now."""


class BufferEvent(BaseModel):
    """The audio so far is a turn (`commit`), or is discarded (`clear`).

    `output_audio_buffer.clear` is for WebRTC; over WebSocket the client itself holds the audio that is not played yet.
    """

    type: Literal["input_audio_buffer.commit", "input_audio_buffer.clear", "output_audio_buffer.clear"]


class ItemCreate(BaseModel):
    type: Literal["conversation.item.create"]
    item: ClientItem
    previous_item_id: Any = None


class ItemEvent(BaseModel):
    """Send an item back, or take it out of the conversation."""

    type: Literal["conversation.item.retrieve", "conversation.item.delete"]
    item_id: Any = None


class ItemTruncate(BaseModel):
    """The person heard the agent's message up to here."""

    type: Literal["conversation.item.truncate"]
    item_id: Any = None
    content_index: Annotated[int, whole(0, 0)] = 0
    audio_end_ms: Annotated[int, whole(0, 2**31)]


def _few(value: Any) -> Any:
    if type(value) is dict and len(value) > 16:
        raise ValueError
    return value


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    BeforeValidator(_few),
    Allowed("an object of up to 16 strings of at most 512 characters"),
]


class ResponseOptions(TypedDict, total=False):
    conversation: Literal["auto"] | None
    input: Any
    instructions: Instructions | None
    output_modalities: Modalities | None
    max_output_tokens: MaxOutputTokens | None
    metadata: Metadata | None
    tools: Tools | None
    tool_choice: ToolChoice | None


class ResponseCreate(BaseModel):
    type: Literal["response.create"]
    response: ResponseOptions | None = None


class ResponseCancel(BaseModel):
    type: Literal["response.cancel"]
    response_id: Any = None


ClientEvent = SessionUpdate | BufferEvent | ItemCreate | ItemEvent | ItemTruncate | ResponseCreate | ResponseCancel
CLIENT_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(Annotated[ClientEvent, Field(discriminator="type"), STRING_TYPE])
