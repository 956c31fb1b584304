"""How the fields of a client's messages are checked, and how a wrong one is reported. All protocols share it. Pure.

pydantic checks the messages. `checked` turns its first complaint into a `BadField`, so that every protocol names the
field, the value and what is allowed in the same words.
"""

import json
from collections.abc import Sequence
from reprlib import Repr
from typing import Any, TypeVar, cast

from pydantic import BeforeValidator, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

T = TypeVar("T")


class _JsonRepr(Repr):
    """Writes a value as the client wrote it, in JSON, but only its beginning: a client may send megabytes."""

    def repr_str(self, value: str, level: int) -> str:
        shown = value if len(value) <= self.maxstring else f"{value[: self.maxstring]}…"
        return json.dumps(shown, ensure_ascii=False)

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: N802 - `Repr` finds it by the type's name
        return "null"


_shown = _JsonRepr()
_shown.maxstring = 60


class BadField(ValueError):
    """A field that cannot be used; the message names it and says what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "BadField":
        """The field has a value that is not allowed."""
        return cls(field, f"{_shown.repr(value)[:80]} is not {allowed}")


class UnknownField(BadField):
    """A field that the protocol does not have."""


# -- how a field is checked -------------------------------------------------------------------------------------


class Allowed:
    """Annotates a field: its core schema gets these constraints, and any error in it says what is allowed."""

    def __init__(self, words: str, **constraints: Any) -> None:
        self.words = words
        self.constraints = constraints

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = cast("CoreSchema", {**handler(source), **self.constraints})
        return core_schema.custom_error_schema(schema, "not_allowed", custom_error_message=self.words)


def whole(low: int, high: int) -> Allowed:
    """Annotates an int within these bounds; a bool or a float is refused."""
    return Allowed(f"a whole number from {low} to {high}", ge=low, le=high)


def number(low: float, high: float) -> Allowed:
    """Annotates a float within these bounds; an int is taken, a bool is refused."""
    return Allowed(f"a number from {low:g} to {high:g}", ge=low, le=high, allow_inf_nan=False)


def text(longest: int) -> Allowed:
    """Annotates a string of at most `longest` characters."""
    return Allowed(f"a string of at most {longest} characters", max_length=longest)


def array(low: int, high: int, of: str) -> BeforeValidator:
    """Annotates a list of `low` to `high` elements. The length is checked first, so a huge list costs nothing."""

    def check(value: Any) -> Any:
        if type(value) is not list or not low <= len(value) <= high:
            raise refusal(f"an array of {low} to {high} {of}")
        return value

    return BeforeValidator(check)


def _check_type(value: Any) -> Any:
    if type(value) is dict and type(value.get("type", "")) is not str:
        raise refusal("a string", "type")
    return value


STRING_TYPE = BeforeValidator(_check_type)
"""Annotates a union by `type`. pydantic writes a wrong tag out, and fails at one that is nested deeply."""


class OnlyKnown:
    """Annotates a TypedDict: an unknown field is refused.

    pydantic's own `extra="forbid"` reports every unknown field: a million of them took 10 s and 1 GiB.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        known = dict.fromkeys(source.__annotations__)

        def check(value: Any) -> Any:
            if type(value) is dict:
                for name in value:
                    if name not in known:
                        raise PydanticCustomError(
                            "unknown_field", f"known; known are {', '.join(known)}", {"at": (name,)}
                        )
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))


def refusal(allowed: str, *at: str | int) -> PydanticCustomError:
    """Make the error that a validator raises. `at`: where in the field that it validates the wrong part is.

    The part itself is not in it: pydantic writes an error's whole context out, however large or deep it is.
    """
    return PydanticCustomError("not_allowed", allowed, {"at": at})


# -- how a wrong field is reported ------------------------------------------------------------------------------

_ALLOWED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
"""What is allowed, by pydantic's type of error."""


def checked(adapter: TypeAdapter[T], value: Any, path: str = "") -> T:
    """The value as its type, checked strictly; `path` is where it stands in the client's message.

    Raises:
        BadField: the first thing that is wrong.
    """
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError as error:
        raise _bad_field(error.errors(include_url=False)[0], value, path) from None


def _bad_field(error: ErrorDetails, value: Any, root: str) -> BadField:
    context = error.get("ctx", {})
    path, given = _follow((*error["loc"], *context.get("at", ())), value, root)
    match error["type"]:
        case "missing":
            return BadField(path, "missing")
        case "unknown_field":
            return UnknownField.of(path, given, error["msg"])
        case "union_tag_not_found":
            return BadField(_join(path, context["discriminator"].strip("'")), "missing")
        case "union_tag_invalid":
            name = context["discriminator"].strip("'")
            allowed = "one of " + context["expected_tags"].replace("'", "")
            return BadField.of(_join(path, name), given[name], allowed)
        case "literal_error":
            return BadField.of(path, given, context["expected"].replace("'", ""))
        case kind:
            return BadField.of(path, given, _ALLOWED.get(kind, error["msg"]))


def _follow(location: Sequence[str | int], value: Any, path: str) -> tuple[str, Any]:
    """Return the path to a location, as a client writes it, and the value there: None if it does not exist.

    Leaves out what pydantic puts into a location for a union: the `type` of its member.
    """
    tag_may_follow = True
    for part in location:
        if isinstance(part, int):
            path, value = f"{path}[{part}]", value[part]
        elif tag_may_follow and part == value.get("type"):
            tag_may_follow = False
            continue
        else:
            path, value = _join(path, part), value.get(part)
        tag_may_follow = True
    return path, value


def _join(path: str, name: str) -> str:
    return f"{path}.{name[:60]}" if path else name[:60]
