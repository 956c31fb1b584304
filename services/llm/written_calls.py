"""Tool calls that a model has written as text, in the notations of the usual families. Pure."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from shared.protocol.session import ToolCall

_FUNCTION = re.compile(r"<function[=\s](?:name=)?[\"']?([\w.-]+)[\"']?>(.*?)(?:</function>|\Z)", re.DOTALL)
_INVOKE = re.compile(r"<invoke\s+name=[\"']([\w.-]+)[\"']\s*>(.*?)(?:</invoke>|\Z)", re.DOTALL)
_HARMONY = re.compile(r"to=functions\.([\w.-]+)[^{]*(\{.*)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter[=\s](?:name=)?[\"']?([\w.-]+)[\"']?[^<>]*>\s*(.*?)\s*</parameter>", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>\s*(.*?)\s*</arg_key>\s*<arg_value>\s*(.*?)\s*</arg_value>", re.DOTALL)
_FENCE = re.compile(r"\A\s*```\w*\s*(.*?)\s*(?:```)?\s*\Z", re.DOTALL)
_NAMED = re.compile(
    r"(?:\A|[\s>\u2581|])([A-Za-z_][\w.-]*)\s*(?:\[ARGS\]|<\|[^|<>]{1,30}\|>|\n|:)*\s*(?:```\w*\s*)?(?=\{)"
)
"""A name before the JSON object of its arguments, as Mistral and DeepSeek write it."""


def written_calls(text: str) -> list[ToolCall]:
    """Return the calls in a text between the marks of a tool call; empty if none can be read."""
    for found in (_FUNCTION.findall(text), _INVOKE.findall(text)):
        if found:
            return [_call(name, _parameters(body)) for name, body in found]
    if harmony := _HARMONY.search(text):
        return [_call(harmony[1], _value(harmony[2]))]
    if arguments := _ARGUMENT.findall(text):  # GLM: the name, then keys and values
        name = text.strip().split(maxsplit=1)[0].partition("<")[0]
        return [_call(name, {key: _value(value) for key, value in arguments})]
    return json_calls(text) or list(_named_calls(text))


def json_calls(text: str) -> list[ToolCall]:
    """Return the calls of a text that is nothing but JSON, or Python's call notation; empty if it is anything else."""
    text = text.strip()
    if fenced := _FENCE.match(text):
        text = fenced[1]
    try:
        found = json.loads(text)
    except ValueError:
        return _python_calls(text)
    calls = [_from_object(one) for one in (found if isinstance(found, list) else [found])]
    return [] if None in calls else [call for call in calls if call is not None]


def _from_object(value: Any) -> ToolCall | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    keys = [key for key in ("arguments", "parameters", "args", "input") if key in value]
    return _call(value["name"], value[keys[0]]) if keys else None


def _named_calls(text: str) -> Iterator[ToolCall]:
    decoder, at = json.JSONDecoder(), 0
    while found := _NAMED.search(text, at):
        try:
            arguments, at = decoder.raw_decode(text, found.end())
        except ValueError:
            return
        yield _call(found[1], arguments)


def _python_calls(text: str) -> list[ToolCall]:
    """Llama 4 and Gemma write `[name(key="value")]`."""
    try:
        tree = ast.parse(text, mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_from_expression(call) for call in calls]
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []


def _from_expression(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("not a call with named arguments")
    return _call(node.func.id, {str(one.arg): ast.literal_eval(one.value) for one in node.keywords})


def _parameters(body: str) -> Any:
    if found := _PARAMETER.findall(body):
        return {key: _value(value) for key, value in found}
    return _value(body.strip() or "{}")


def _value(text: str) -> Any:
    """The value of a parameter: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _call(name: str, arguments: Any) -> ToolCall:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
    return ToolCall(f"call_{uuid4().hex}", name, written)
