"""The tools of OpenAI Realtime: which a client may declare, and what they are in Parley's terms. Pure."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from services.edge.protocols.fields import MAX_INSTRUCTIONS, BadField, string
from shared.prompt import NO_TOOLS
from shared.session import Tool

MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 64 * 1024
"""One tool's `parameters`, as JSON."""
MAX_TOOLS_BYTES = 1024 * 1024
"""All tools of a session together: they travel in one entry of the broker's, which holds 4 MiB."""

CHOICES = ("auto", NO_TOOLS, "required")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_PARAMETERS = {"type": "object", "properties": {}}


def checked_tools(path: str, value: Any) -> list[dict[str, Any]]:
    """The tools as they were sent: what Parley does not know of them is told back too.

    Raises:
        BadField: no list of functions, or too many, too large, or two of one name.
    """
    if type(value) is not list or len(value) > MAX_TOOLS:
        raise BadField(path, value, f"an array of at most {MAX_TOOLS} tools")
    names: set[str] = set()
    size = 0
    for index, tool in enumerate(value):
        size += _check_tool(f"{path}[{index}]", tool, names)
    if size > MAX_TOOLS_BYTES:
        raise BadField(path, value, f"tools of at most {MAX_TOOLS_BYTES} bytes together")
    return value


def _check_tool(path: str, tool: Any, names: set[str]) -> int:
    """Check one tool and add its name. Returns its size in bytes."""
    if type(tool) is not dict:
        raise BadField(path, tool, "an object")
    if tool.get("type") != "function":
        raise BadField(f"{path}.type", tool.get("type"), "function")
    name, description, parameters = tool.get("name"), tool.get("description"), tool.get("parameters")
    if type(name) is not str or not _NAME.fullmatch(name) or name in CHOICES:
        raise BadField(f"{path}.name", name, "1 to 64 letters, digits, _ or -, and none of " + ", ".join(CHOICES))
    if name in names:
        raise BadField(f"{path}.name", name, "a name of its own: another tool has it")
    names.add(name)
    if description is not None:
        string(f"{path}.description", description, MAX_INSTRUCTIONS)
    if parameters is not None and type(parameters) is not dict:
        raise BadField(f"{path}.parameters", parameters, "an object: the JSON schema of the arguments")
    try:
        schema = orjson.dumps(parameters)
    except orjson.JSONEncodeError:  # what can be read can be nested too deeply to be written
        raise BadField(f"{path}.parameters", parameters, "an object that is nested less deeply") from None
    if len(schema) > MAX_SCHEMA_BYTES:
        raise BadField(f"{path}.parameters", parameters, f"a schema of at most {MAX_SCHEMA_BYTES} bytes of JSON")
    return len(name) + len((description or "").encode()) + len(schema)


def checked_choice(path: str, value: Any) -> Any:
    """Raises `BadField` on anything but a word for a choice or an object that names a function."""
    if type(value) is dict:
        if value.get("type") != "function":
            raise BadField(f"{path}.type", value.get("type"), "function")
        if type(value.get("name")) is not str or not _NAME.fullmatch(value["name"]):
            raise BadField(f"{path}.name", value.get("name"), "the name of a tool")
    elif value not in CHOICES:
        raise BadField(path, value, f"{', '.join(CHOICES)} or an object")
    return value


def as_tools(checked: Sequence[dict[str, Any]]) -> tuple[Tool, ...]:
    """Checked tools as the chat model gets them."""
    return tuple(
        Tool(
            tool["name"],
            tool.get("description") or "",
            orjson.dumps(tool.get("parameters") or _NO_PARAMETERS).decode(),
        )
        for tool in checked
    )


def as_choice(checked: Any) -> str:
    """A checked choice as the session's settings have it."""
    return str(checked["name"] if type(checked) is dict else checked)
