"""The settings of a process, from the environment (`PARLEY_…`), checked at start.

Each setting is one annotated field. To add one, add a field to the class of its section: in `settings_service`,
`settings_access` or `settings_engines`, or in `protocol.session.SessionSettings` if a client may set it, too. `TABLE` has all
of them. Only this file and the entry points read the environment.
"""

import os
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.protocol.session import SESSION_TABLE, SessionSettings, with_fitting_pause
from shared.settings_access import AccessSettings
from shared.settings_engines import EndpointSettings, EngineSettings, ModelSettings, ScriptedSettings
from shared.settings_service import Profile, ServiceSettings, WorkerSettings
from shared.settings_table import Table, read_table

Stage = Literal["vad", "asr", "llm", "tts"]
STAGES: tuple[Stage, ...] = ("vad", "asr", "llm", "tts")

PROFILES: dict[Profile, dict[str, Any]] = {
    "light": {
        "vad_engine": "silero",
        "endpoint_engine": "fused",
        "asr_engine": "faster-whisper",
        "llm_engine": "llama-cpp",
        "tts_engine": "piper",
        "batch": 4,
        "reply_tokens": 60,
        "temperature": 0.0,
    },
    "neural": {
        "vad_engine": "silero",
        "endpoint_engine": "fused",
        "asr_engine": "transformers",
        "llm_engine": "transformers",
        "tts_engine": "kokoro",
    },
    "classic": {"vad_engine": "webrtc", "asr_engine": "sphinx", "llm_engine": "eliza", "tts_engine": "espeak"},
}
"""The settings of each profile. A setting of its own name overrides each of them. The first profile is the default."""

ENDPOINT_ENGINE = "openai"
URLS = {"asr_url": "asr_engine", "llm_url": "llm_engine", "tts_url": "tts_engine"}
"""Settings that name an endpoint, and the setting of the engine, which is then `ENDPOINT_ENGINE` if it is not set."""
_ENGINES = {f"{stage}_engine" for stage in STAGES}
"""If empty, the profile's."""

PREFIX = "PARLEY_"
FOR_TESTS = frozenset({"test_clips", "test_models"})
"""Folders that only tests and benchmarks read: PARLEY_TEST_CLIPS and PARLEY_TEST_MODELS."""
REFERENCE = "docs/settings.md"
NEAR = 0.75
"""Least similarity of a known name that is suggested; see `difflib`."""


class BadSettings(ValueError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


class Settings(
    ServiceSettings,
    AccessSettings,
    EngineSettings,
    ModelSettings,
    EndpointSettings,
    WorkerSettings,
    ScriptedSettings,
    BaseSettings,
):
    """Every setting; `PARLEY_` and the upper-case name set it. Arguments take precedence over the environment."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    session: SessionSettings = SessionSettings()
    """The settings of a session where neither its client nor its agent sets them. Its fields are arguments and variables
    like all others."""
    overrides: frozenset[str] = frozenset()
    """The names of the settings that arguments or variables set, and not the profile: they override an agent's."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment; no other source."""
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Add what endpoints and the profile set, and put the settings of a session into their object."""
        given = {name: value for name, value in given.items() if name not in FOR_TESTS}
        for url, engine in URLS.items():
            if given.get(url) and not given.get(engine):
                given[engine] = ENDPOINT_ENGINE
        profile = given.get("profile", cls.model_fields["profile"].default)
        chosen = PROFILES.get(profile, {}) if isinstance(profile, str) else {}  # type: ignore[call-overload]
        values = {**chosen, **{name: value for name, value in given.items() if value != "" or name not in _ENGINES}}
        if "session" not in given or any(name in given for name in SESSION_TABLE):
            values["session"] = {name: values[name] for name in SESSION_TABLE if name in values}
            values["overrides"] = frozenset(given)
        return {name: value for name, value in values.items() if name not in SESSION_TABLE}

    @field_validator("session")
    @classmethod
    def _fit_pause(cls, session: SessionSettings) -> SessionSettings:
        return with_fitting_pause(session)

    def flat(self) -> dict[str, Any]:
        """Every setting of the table with its value as JSON has it; secrets are masked."""
        values = self.model_dump(mode="json")
        return {name: values["session"][name] if name in SESSION_TABLE else values[name] for name in TABLE}


TABLE: Table = {
    name: row for cls in Settings.__bases__ if cls is not BaseSettings for name, row in read_table(cls).items()
} | SESSION_TABLE
"""Every setting by name, in the order of the documentation."""


class _Environment(PydanticBaseSettingsSource):
    """Every variable that begins with PARLEY_; one that the table does not know keeps its whole name, and is refused."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # pydantic-settings asks a source for single fields only in its own sources

    def __call__(self) -> dict[str, Any]:
        found = {}
        for variable, value in os.environ.items():
            if variable.upper().startswith(PREFIX):
                name = variable[len(PREFIX) :].lower()
                found[name if name in TABLE or name in FOR_TESTS else variable] = value
        return found


def describe_errors(error: ValidationError) -> str:
    """One line for each wrong setting: its name in the environment, its value, what is allowed."""
    return "\n".join(_describe(str(item["loc"][-1]), item["input"]) for item in error.errors())


def _describe(name: str, value: object) -> str:
    row = TABLE.get(name)
    if row is not None:
        shown = "(a secret)" if row.type == "secret" else repr(value)
        return f"{row.variable}={shown}: must be {row.allowed}"
    # Its value is not shown: it may be a secret whose name is misspelt.
    name = name.upper().removeprefix(PREFIX)
    near = get_close_matches(name.lower(), TABLE, n=1, cutoff=NEAR)
    hint = f"did you mean {TABLE[near[0]].variable}?" if near else "unset it."
    return f"{PREFIX}{name}: there is no such setting; {hint} {REFERENCE} lists all settings."


@cache
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        BadSettings: naming every setting that is wrong, and every variable `PARLEY_…` that is not a setting.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings(describe_errors(error)) from None
