"""The tools of OpenAI Realtime: which tools a client may declare, and how Parley represents them. Pure."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Required

import orjson
from pydantic import AfterValidator, ConfigDict, ValidatorFunctionWrapHandler, WrapValidator
from typing_extensions import TypedDict

from services.edge.protocols.fields import Allowed, array, refusal
from services.edge.protocols.session_settings import Instructions
from shared.protocol.prompt import NO_TOOLS
from shared.protocol.session import Tool

MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 64 * 1024
"""One tool's `parameters`, as JSON."""
MAX_TOOLS_BYTES = 1024 * 1024
"""All tools of a session together, as JSON: they travel in one entry of the broker's stream, which holds 4 MiB."""

CHOICES = ("auto", NO_TOOLS, "required")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_PARAMETERS = {"type": "object", "properties": {}}


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in CHOICES:
        raise ValueError
    return name


def _check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:  # JSON that can be read may be nested too deeply to be written
        raise refusal("an object that is nested less deeply") from None
    if size > MAX_SCHEMA_BYTES:
        raise refusal(f"a schema of at most {MAX_SCHEMA_BYTES} bytes of JSON")
    return schema


Name = Annotated[
    str,
    AfterValidator(_check_name),
    Allowed("1 to 64 letters, digits, _ or -, and not one of " + ", ".join(CHOICES)),
]
Schema = Annotated[
    dict[str, Any], Allowed("an object: the JSON schema of the arguments"), AfterValidator(_check_schema)
]


class FunctionTool(TypedDict, total=False):
    """A tool as the client declares it. Fields that Parley does not know are kept, and sent back with the session."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    type: Required[Literal["function"]]
    name: Required[Name]
    description: Instructions | None
    parameters: Schema | None


def _check_together(tools: list[FunctionTool]) -> list[FunctionTool]:
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if tool["name"] in names:
            raise refusal("a name of its own: another tool has it", index, "name")
        names.add(tool["name"])
    try:
        size = len(orjson.dumps(tools))
    except orjson.JSONEncodeError:
        raise refusal("an array that is nested less deeply") from None
    if size > MAX_TOOLS_BYTES:
        raise refusal(f"an array of at most {MAX_TOOLS_BYTES} bytes of JSON")
    return tools


class NamedTool(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    type: Literal["function"]
    name: Annotated[str, Allowed("the name of a tool", pattern=f"^{_NAME.pattern}$")]


def _check_choice(value: Any, check_named: ValidatorFunctionWrapHandler) -> Any:
    if type(value) is dict:
        return check_named(value)
    if value not in CHOICES:
        raise refusal(f"{', '.join(CHOICES)} or an object that names a tool")
    return value


Tools = Annotated[list[FunctionTool], array(0, MAX_TOOLS, "tools"), AfterValidator(_check_together)]
ToolChoice = Annotated[NamedTool, WrapValidator(_check_choice)]
"""A `NamedTool`, or one of `CHOICES`."""


def as_tools(tools: Sequence[FunctionTool]) -> tuple[Tool, ...]:
    """The tools as the chat model gets them."""
    return tuple(
        Tool(
            tool["name"],
            tool.get("description") or "",
            orjson.dumps(tool.get("parameters") or _NO_PARAMETERS).decode(),
        )
        for tool in tools
    )


def as_choice(choice: NamedTool | str) -> str:
    """The choice as the session's settings hold it."""
    return choice if isinstance(choice, str) else choice["name"]
