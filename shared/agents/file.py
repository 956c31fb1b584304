"""The file of an agent: its keys, and what is wrong with it, line by line. Pure.

Its keys are those of `Head` and every setting of a session.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from shared.protocol.session import SESSION_TABLE
from shared.settings import TABLE

REFERENCE = "docs/agents.md"
_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


class Problem(NamedTuple):
    """Something that is wrong with a file."""

    line: int
    """0: the whole file."""
    text: str


class BadFile(ValueError):
    """A file cannot be used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.text for problem in problems))
        self.problems = problems


Words = StringConstraints(pattern=r"\S")
Said = Annotated[str, StringConstraints(pattern=r"\S", max_length=1000)]
Number = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{1,14}$")]


class Head(BaseModel):
    """The keys of a file beside the settings of a session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"\S", max_length=60)]
    description: Annotated[str, StringConstraints(max_length=300)] = ""
    numbers: list[Number] = []
    examples: Annotated[list[Annotated[list[Said], Field(min_length=2, max_length=2)]], Field(max_length=20)] = []
    failure_texts: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")],
        Annotated[str, StringConstraints(pattern=r"\S", max_length=300)],
    ] = {}
    llm_model: Annotated[str, StringConstraints(max_length=200)] = ""
    temperature: TABLE["temperature"].hint | None = None  # type: ignore[valid-type]
    reply_tokens: TABLE["reply_tokens"].hint | None = None  # type: ignore[valid-type]


ALLOWED = {
    "name": "a string of 1 to 60 characters",
    "description": "a string of at most 300 characters",
    "numbers": 'an array of phone numbers such as "+15550100"',
    "examples": 'an array of at most 20 pairs such as ["Hello.", "Hello! How can I help you?"]',
    "failure_texts": 'a table from languages to texts, such as en = "Please say that again."',
    "llm_model": "the name of a model, a string of at most 200 characters",
    "temperature": TABLE["temperature"].allowed,
    "reply_tokens": TABLE["reply_tokens"].allowed,
    "instructions": "a string with words in it",
}
"""What a key may be, where the table of settings does not say it."""


def _instructions() -> Any:
    row = SESSION_TABLE["instructions"]
    return Annotated[get_args(row.hint)[0], row.setting, Words]


_SETTINGS: dict[str, Any] = {name: (row.hint, row.default) for name, row in SESSION_TABLE.items()}
AgentFile: Any = create_model("AgentFile", __base__=Head, **{**_SETTINGS, "instructions": (_instructions(), ...)})


def parse_agent(data: bytes) -> Any:
    """Read the content of a file.

    Raises:
        BadFile: with everything that is wrong.
    """
    try:
        text = data.decode()
        values = tomllib.loads(text)
        return AgentFile.model_validate(values)
    except UnicodeDecodeError as error:
        raise BadFile([Problem(data.count(b"\n", 0, error.start) + 1, "not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise BadFile([Problem(line, f"not TOML: {_LINE.sub('', str(error))}")]) from None
    except ValidationError as error:
        raise BadFile(sorted(_problems(error, text))) from None


def _problems(error: ValidationError, text: str) -> Iterator[Problem]:
    seen = set()
    for one in error.errors(include_url=False):
        key = str(one["loc"][0])
        if key in seen:
            continue  # the elements of an array
        seen.add(key)
        yield Problem(line_of(key, text), _describe(key, one["type"], one["input"]))


def _describe(key: str, kind: str, value: object) -> str:
    if kind == "extra_forbidden":
        if key in TABLE:
            return f"{key} is the same for all sessions: set {TABLE[key].variable} instead"
        near = get_close_matches(key, AgentFile.model_fields, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}?" if near else f"{REFERENCE} lists all keys"
        return f"there is no key {key!r}; {hint}"
    if kind == "missing":
        return f"the key {key} is missing"
    allowed = ALLOWED.get(key) or SESSION_TABLE[key].allowed
    if kind == "string_too_long" and key in SESSION_TABLE:
        allowed = SESSION_TABLE[key].allowed
    return f"{key} = {repr(value)[:60]}: must be {allowed}"


def line_of(key: str, text: str) -> int:
    """The line on which the statement of a top-level key begins; 0 if the file does not have it.

    tomllib does not say. The first lines of a TOML file are a TOML file, too, unless they end inside a value: so the
    statement begins after the longest beginning that can be read and lacks the key.
    """
    lines = text.splitlines(keepends=True)
    begins = 1
    for count in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if key in values:
            return begins
        begins = count + 1
    return 0
