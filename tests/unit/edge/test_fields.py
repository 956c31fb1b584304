"""Checks of fields: what is refused, and how the field, the value and what is allowed are named."""

from typing import Annotated, Any, Literal, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from services.edge.protocols.fields import (
    STRING_TYPE,
    BadField,
    OnlyKnown,
    UnknownField,
    array,
    checked,
    number,
    refusal,
    text,
    whole,
)
from services.edge.protocols.session_settings import Config, Settable, with_settings
from shared.protocol.session import SessionSettings

WHOLE = TypeAdapter(Annotated[int, whole(-5, 100)])
NUMBER = TypeAdapter(Annotated[float, number(-0.5, 4)])
TEXT = TypeAdapter(Annotated[str, text(3)])
SETTINGS: TypeAdapter[Settable] = TypeAdapter(Config)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
near = st.sampled_from(
    [-6, -5, 0, 100, 101, 2**63, 2**64 - 1, 10**400, -0.5, -0.51, 4, 4.0, 4.01, 1e308, True, "5", ""]
)


def refused(adapter: TypeAdapter[Any], value: Any, path: str = "x") -> BadField:
    with pytest.raises(BadField) as caught:
        checked(adapter, value, path)
    assert str(caught.value).startswith(f"{caught.value.field}: ")
    return caught.value


@settings(deadline=None)
@given(json_values | near)
def test_a_whole_number_is_an_int_within_its_bounds(value: Any) -> None:
    if type(value) is int and -5 <= value <= 100:
        assert checked(WHOLE, value) == value
    else:
        assert str(refused(WHOLE, value)).endswith(" is not a whole number from -5 to 100")


@settings(deadline=None)
@given(json_values | near)
def test_a_number_is_an_int_or_a_float_within_its_bounds(value: Any) -> None:
    if type(value) in (int, float) and -0.5 <= value <= 4:
        taken = checked(NUMBER, value)
        assert (taken, type(taken)) == (value, float)
    else:
        assert str(refused(NUMBER, value)).endswith(" is not a number from -0.5 to 4")


@settings(deadline=None)
@given(json_values | st.sampled_from(["äöü", "😀😀😀", "😀😀😀😀"]))
def test_a_text_is_a_string_of_so_many_characters(value: Any) -> None:
    if type(value) is str and len(value) <= 3:
        assert checked(TEXT, value) == value
    else:
        assert str(refused(TEXT, value)).endswith(" is not a string of at most 3 characters")


@settings(deadline=None)
@given(name=st.sampled_from(list(Settable.__annotations__)), value=json_values | near)
def test_a_setting_that_is_taken_has_the_type_that_the_session_expects(name: str, value: Any) -> None:
    default = SessionSettings()
    wrong: BadField | None = None
    try:
        changed = getattr(with_settings(default, checked(SETTINGS, {name: value}, "config"), "config"), name)
    except BadField as error:
        wrong = error
    if wrong is None:
        assert (changed, type(changed)) == (value, type(getattr(default, name)))
    else:
        assert wrong.field == f"config.{name}"
        assert len(str(wrong)) < 400


def test_each_setting_that_a_client_can_name_is_one_of_the_session() -> None:
    assert set(get_type_hints(Settable)) <= set(SessionSettings.__dataclass_fields__)


class Word(TypedDict):
    type: Literal["word"]
    word: str


class Number(TypedDict):
    type: Literal["number"]
    number: Annotated[int, whole(0, 9)]


class Note(BaseModel):
    type: Literal["note"]
    parts: Annotated[list[Annotated[Word | Number, Field(discriminator="type"), STRING_TYPE]], array(1, 3, "parts")]
    loud: bool = False


class Other(BaseModel):
    type: Literal["other"]


MESSAGE = TypeAdapter(Annotated[Note | Other, Field(discriminator="type"), STRING_TYPE])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "x: 5 is not an object"),
        (None, "x: null is not an object"),
        ({}, "x.type: missing"),
        ({"type": "song"}, 'x.type: "song" is not one of note, other'),
        ({"type": ["note"]}, 'x.type: ["note"] is not a string'),
        ({"type": "note"}, "x.parts: missing"),
        ({"type": "note", "parts": {}}, "x.parts: {} is not an array of 1 to 3 parts"),
        ({"type": "note", "parts": []}, "x.parts: [] is not an array of 1 to 3 parts"),
        ({"type": "note", "parts": [1] * 4}, "x.parts: [1, 1, 1, 1] is not an array of 1 to 3 parts"),
        ({"type": "note", "parts": [1]}, "x.parts[0]: 1 is not an object"),
        ({"type": "note", "parts": [{"type": "word"}]}, "x.parts[0].word: missing"),
        ({"type": "note", "parts": [{"type": "word", "word": 1}]}, "x.parts[0].word: 1 is not a string"),
        (
            {"type": "note", "parts": [{"type": "word", "word": ""}, {"type": "number", "number": 10}]},
            "x.parts[1].number: 10 is not a whole number from 0 to 9",
        ),
        ({"type": "note", "parts": [{"type": "word", "word": ""}], "loud": 1}, "x.loud: 1 is not true or false"),
    ],
)
def test_a_wrong_field_is_named_as_the_client_writes_it(value: Any, message: str) -> None:
    error = refused(MESSAGE, value)
    assert str(error) == message
    assert checked(MESSAGE, {"type": "other", "more": 1}) == Other(type="other")


def test_at_the_top_of_a_message_no_dot_comes_first() -> None:
    assert refused(MESSAGE, {}, "").field == "type"
    assert refused(MESSAGE, {"type": "song"}, "").field == "type"
    assert refused(MESSAGE, {"type": "note"}, "").field == "parts"


def test_of_many_unknown_fields_the_first_is_named_and_not_all_are_collected() -> None:
    error = refused(SETTINGS, {f"unknown_{n}": n for n in range(200_000)}, "config")
    assert isinstance(error, UnknownField)
    assert error.field == "config.unknown_0"
    assert str(error).startswith("config.unknown_0: 0 is not known; known are detect_turns, threshold, ")


def test_a_long_name_and_a_long_value_are_cut() -> None:
    error = refused(SETTINGS, {"x" * 100_000: ["y" * 100_000] * 1000}, "config")
    assert len(error.field) < 80
    assert len(str(error)) < 700


def test_a_validator_can_name_a_part_of_what_it_checks() -> None:
    class Pair(TypedDict):
        left: int

    def fail(_: Pair) -> Pair:
        raise refusal("even", "left")

    adapter = TypeAdapter(Annotated[Pair, OnlyKnown(), AfterValidator(fail)])
    assert str(refused(adapter, {"left": 3})) == "x.left: 3 is not even"
    assert isinstance(refused(adapter, {"right": 3}), UnknownField)
