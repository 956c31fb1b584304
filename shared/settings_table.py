"""What a setting is, and how a class of annotated fields is read as a table of settings.

A setting is declared in one place, as a field:

    endpoint_ms: Annotated[int, Setting("Silence after which a turn is over", 100, 5000, unit="ms")] = 500

The field has the name, the type and the default; `Setting` has the range, the unit and the documentation. pydantic enforces
the range wherever it validates the field, and `read_table` gives the rows from which everything else is made. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import GroupedMetadata, Predicate
from pydantic import BaseModel, Field, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "path", SecretStr: "secret"}


@dataclass(frozen=True)
class Setting(GroupedMetadata):
    """What the table says about a setting beside its name, type and default. pydantic reads it as constraints."""

    text: str
    """What it does, in one line."""
    low: float | None = None
    high: float | None = None
    """The range, both ends included."""
    unit: str = ""
    longest: int | None = None
    """Characters."""
    choices: tuple[str, ...] = ()
    """The allowed values of a string that is not typed as a `Literal`."""
    pattern: str = ""
    """Regular expression that the whole string matches."""
    shape: str = ""
    """What the pattern means, in words."""
    page: str = ""
    """Its label in the settings panel of the page; empty: the page does not show it."""
    stage: str = ""
    """The stage that uses it; empty: several, or the edge."""

    def __iter__(self) -> Iterator[object]:
        constraints: FieldInfo = Field(ge=self.low, le=self.high, max_length=self.longest)
        yield from constraints.metadata
        if pattern := self.pattern or "|".join(map(re.escape, self.choices)):
            yield Predicate(re.compile(pattern).fullmatch)  # type: ignore[arg-type]  # a match is as good as True


@dataclass(frozen=True)
class Row:
    """One setting."""

    name: str
    hint: Any
    """The annotation, with its `Setting`."""
    default: Any
    setting: Setting
    section: str
    """First line of the docstring of the class that declares it."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"PARLEY_{self.name.upper()}"

    @property
    def type(self) -> str:
        """A value of `TYPES`."""
        bare = get_args(self.hint)[0]
        if get_origin(bare) is Literal:
            return "string"
        plain = next((arg for arg in get_args(bare) if arg is not NoneType), bare)
        return TYPES[plain]

    @property
    def choices(self) -> tuple[str, ...]:
        """All allowed values; empty: there are too many to list."""
        bare = get_args(self.hint)[0]
        return get_args(bare) if get_origin(bare) is Literal else self.setting.choices

    @property
    def allowed(self) -> str:
        """The allowed values, in words that follow "must be"."""
        setting = self.setting
        if setting.shape:
            return setting.shape
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        match self.type:
            case "boolean":
                return "true or false"
            case "integer" | "number" as kind:
                noun = "a whole number" if kind == "integer" else "a number"
                end = f"of at least {setting.low:g}" if setting.high is None else f"from {setting.low:.15g}"
                return f"{noun} {end}" if setting.high is None else f"{noun} {end} to {setting.high:.15g}"
            case "string" if setting.longest:
                return f"a string of at most {setting.longest} characters"
            case kind:
                return f"a {kind}"

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.hint)

    def check(self, value: object) -> Any:
        """A value from JSON: of the right type, and in range. Returns it (an integer as a float where one is due).

        Raises:
            ValueError: it is not `allowed`.
        """
        return self._adapter.validate_python(value, strict=True)

    def parse(self, text: str) -> Any:
        """A value that is written as a string, as in the environment or in a phone carrier's parameter.

        Raises:
            ValueError: it is not `allowed`.
        """
        return self._adapter.validate_python(text)

    def described(self) -> dict[str, Any]:
        """The row as JSON, without its default; the page builds a control from it."""
        setting = self.setting
        facts = {
            "name": self.name,
            "type": self.type,
            "text": setting.text,
            "label": setting.page,
            "unit": setting.unit,
            "min": setting.low,
            "max": setting.high,
            "longest": setting.longest,
            "pattern": setting.pattern,
            "shape": setting.shape,
            "choices": list(self.choices),
        }
        return {name: value for name, value in facts.items() if value not in (None, "", [])}


Table = dict[str, Row]
"""Rows by name, in the order in which they are declared."""


def read_table(cls: type[Any]) -> Table:
    """The settings among the fields that this class, a dataclass or a pydantic model, declares itself."""
    section = (cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".")
    hints = get_type_hints(cls, include_extras=True)
    rows = {}
    for name, default in _defaults(cls).items():
        setting = next((one for one in get_args(hints[name]) if isinstance(one, Setting)), None)
        if setting is not None and name in cls.__annotations__:
            rows[name] = Row(name, hints[name], default, setting, section)
    return rows


def _defaults(cls: type[Any]) -> dict[str, Any]:
    if is_dataclass(cls):
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}
    if issubclass(cls, BaseModel):
        return {name: field.default for name, field in cls.model_fields.items()}
    return {}
