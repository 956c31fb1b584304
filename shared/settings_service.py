"""The settings of a service: its start, addresses and logs, its work and its sessions. Two sections of the table in `shared.settings`."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, SecretStr, field_validator

from shared.settings_table import Setting

Profile = Literal["light", "neural", "classic"]


def user_cache() -> Path:
    """The user's folder for files that can be downloaded again, by the XDG Base Directory Specification."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return folder if folder.is_absolute() else Path.home() / ".cache"


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

    @field_validator("models_dir")
    @classmethod
    def _expand(cls, folder: Path) -> Path:
        return folder.expanduser()


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
    reply_deadline_s: Annotated[
        float,
        Setting(
            "A reply fails if its voice does not come for this time, counted while nothing of it is heard",
            0.1,
            3600,
            "s",
            stage="edge",
        ),
    ] = 10.0
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
