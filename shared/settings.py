"""The settings of a process, from the environment (`PARLEY_…`), checked at start.

Each setting is one annotated field. To add one, add a field to the class of its section: here, in `shared.settings_engines`, or
in `shared.protocol.session.SessionSettings` if a client may set it, too. `TABLE` has all of them. Only this file and the entry points
read the environment.
"""

import os
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.protocol.session import SESSION_TABLE, SessionSettings, with_fitting_pause
from shared.settings_access import AccessSettings
from shared.settings_engines import EndpointSettings, EngineSettings, ModelSettings, ScriptedSettings
from shared.settings_table import Setting, Table, read_table

Stage = Literal["vad", "asr", "llm", "tts"]
STAGES: tuple[Stage, ...] = ("vad", "asr", "llm", "tts")

Profile = Literal["light", "neural", "classic"]
PROFILES: dict[Profile, dict[str, Any]] = {
    "light": {
        "vad_engine": "silero",
        "endpoint_engine": "smart-turn",
        "asr_engine": "faster-whisper",
        "llm_engine": "llama-cpp",
        "tts_engine": "piper",
        "batch": 4,
        "reply_tokens": 60,
        "temperature": 0.0,
    },
    "neural": {
        "vad_engine": "silero",
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


def user_cache() -> Path:
    """The user's folder for files that can be downloaded again, by the XDG Base Directory Specification."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return folder if folder.is_absolute() else Path.home() / ".cache"


PREFIX = "PARLEY_"
FOR_TESTS = frozenset({"test_clips", "test_models"})
"""Folders that only tests and benchmarks read: PARLEY_TEST_CLIPS and PARLEY_TEST_MODELS."""
REFERENCE = "docs/settings.md"
NEAR = 0.75
"""Least similarity of a known name that is suggested; see `difflib`."""


class BadSettings(ValueError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


class ServiceSettings(BaseModel):
    """Start, addresses and logs"""

    profile: Annotated[Profile, Setting("Set of engines and models that is started")] = "light"
    redis_url: Annotated[
        SecretStr | None,
        Setting(
            "Broker, Redis 7.0 or Valkey 7.2 or newer: redis://, rediss:// or unix://; unset: `parley up` starts one"
        ),
    ] = None
    redis_ca_file: Annotated[
        Path | None, Setting("Certificates (PEM) that may have signed the broker's, for rediss://; unset: the system's")
    ] = None
    redis_cert_file: Annotated[
        Path | None, Setting("Certificate (PEM) with which this process connects to the broker, for rediss://")
    ] = None
    redis_key_file: Annotated[
        Path | None, Setting("Private key (PEM) of PARLEY_REDIS_CERT_FILE; unset: it is in the same file")
    ] = None
    host: Annotated[str, Setting("Address on which the edge listens", stage="edge")] = "127.0.0.1"
    port: Annotated[int, Setting("Port on which the edge listens", 0, 65535, stage="edge")] = 8000
    listen_fd: Annotated[
        int,
        Setting(
            "Descriptor of a socket that listens already, which the edge inherits; 0: it listens itself. `parley up` sets it",
            0,
            stage="edge",
        ),
    ] = 0
    data_dir: Annotated[
        Path, Setting("Folder for what was added later: cloned voices, keys, recordings of sessions")
    ] = Path("~/.local/share/parley").expanduser()
    models_dir: Annotated[Path, Setting("Folder of the downloaded models of the catalogue; all clones share it")] = (
        user_cache() / "parley" / "models"
    )
    agents: Annotated[
        Path | None,
        Setting("Folder of agents, or the file of one; unset: the agents that come with Parley", stage="edge"),
    ] = None
    agent: Annotated[
        str, Setting("Agent of clients that name none; empty: assistant, or the only one", longest=40, stage="edge")
    ] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Setting("Lowest level that is logged")] = "info"
    log_format: Annotated[Literal["auto", "json", "text"], Setting("auto: text in a terminal, JSON elsewhere")] = "auto"
    log_content: Annotated[bool, Setting("Logs, traces and the monitor also show what was said")] = False
    keep_turns_h: Annotated[
        int,
        Setting(
            "Time for which the monitor can look up finished turns; the broker keeps the latest 5000",
            1,
            8760,
            "h",
            stage="edge",
        ),
    ] = 24
    record: Annotated[
        Literal["off", "asked", "all"],
        Setting(
            "Sessions that the edge records in PARLEY_DATA_DIR, for `parley replay`; asked: those whose `may_record` is true",
            stage="edge",
        ),
    ] = "off"
    keep_recordings_h: Annotated[
        int, Setting("Time after which the recording of a session is deleted", 1, 8760, "h", stage="edge")
    ] = 168
    metrics_port: Annotated[int, Setting("Port of this process's Prometheus metrics; 0: none", 0, 65535)] = 0
    metrics_host: Annotated[str, Setting("Address on which the metrics are served")] = "127.0.0.1"
    metrics_shared: Annotated[
        bool, Setting("Another process may listen on the metrics port, too; `parley up` sets it, for `parley roll`")
    ] = False
    traces: Annotated[
        Literal["off", "otlp", "console"],
        Setting("Where OpenTelemetry traces are sent; otlp: to OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] = "off"
    traces_share: Annotated[float, Setting("Share of the turns that are traced", 0, 1)] = 1.0
    monitor: Annotated[
        Literal["auto", "on", "off"],
        Setting(
            "The page /monitor; auto: for this machine, where the edge listens on loopback, and for operators' keys",
            stage="edge",
        ),
    ] = "auto"


class WorkerSettings(BaseModel):
    """Workers and sessions"""

    lease_ms: Annotated[
        int,
        Setting("Silence of a worker that is not known to be dead, until another takes its jobs", 200, 60_000, "ms"),
    ] = 5000
    max_deliveries: Annotated[int, Setting("Attempts at a job before it becomes a dead letter", 1, 20)] = 3
    drain_ms: Annotated[
        int,
        Setting(
            "Time that a stopping worker has to finish its jobs, and a stopping edge its replies", 0, 600_000, "ms"
        ),
    ] = 5000
    gather_ms: Annotated[float, Setting("Time for which writes are gathered into one pipeline", 0, 50, "ms")] = 2.0
    read_pace_ms: Annotated[float, Setting("Longest pause after a read of the streams, under load", 0, 50, "ms")] = 4.0
    max_sessions: Annotated[int, Setting("Sessions of one edge; more are refused", 1, stage="edge")] = 500
    max_silent: Annotated[
        int,
        Setting("Connections of one edge that have not started a session; the oldest is closed first", 1, stage="edge"),
    ] = 200
    caller_sessions: Annotated[
        int, Setting("Sessions of one address or key; more are refused. No limit on this machine", 1, stage="edge")
    ] = 100
    caller_connects: Annotated[
        int,
        Setting(
            "Connections of one address or key in a minute; more are refused. No limit on this machine", 1, stage="edge"
        ),
    ] = 600
    max_session_s: Annotated[int, Setting("A session is closed after this time", 1, unit="s", stage="edge")] = 3600
    resume_s: Annotated[
        int,
        Setting(
            "Time in which a client that has lost its connection resumes its session; 0: never",
            0,
            40,
            "s",
            stage="edge",
        ),
    ] = 30
    reply_ahead_s: Annotated[
        float, Setting("Reply audio is made and sent at most this much ahead of playback", 0.1, 600, "s")
    ] = 30.0
    turn_deadline_s: Annotated[
        float,
        Setting(
            "A turn on which no stage makes progress for this time fails, with an error for the client",
            0.1,
            3600,
            "s",
            stage="edge",
        ),
    ] = 20.0
    queue_age_limit_ms: Annotated[
        int, Setting("New sessions are refused while a stage is this far behind", 0, 600_000, "ms", stage="edge")
    ] = 500
    load_limit: Annotated[
        float,
        Setting(
            "New sessions are refused where a stage would have more than this share of its slots busy",
            0.05,
            1000,
            stage="edge",
        ),
    ] = 0.85
    first_clause_words: Annotated[
        int, Setting("Words after which the first clause of a reply is spoken; 0: whole sentences", 0, 50, stage="llm")
    ] = 3


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

    @field_validator("models_dir")
    @classmethod
    def _expand(cls, folder: Path) -> Path:
        return folder.expanduser()

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
