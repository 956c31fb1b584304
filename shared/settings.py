"""All settings, from the environment (`PARLEY_…`), checked at start. The only file besides the entry points that reads it."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Stage = Literal["vad", "asr", "llm", "tts"]
STAGES: tuple[Stage, ...] = ("vad", "asr", "llm", "tts")

Profile = Literal["classic", "neural"]
PROFILES: dict[Profile, dict[str, Any]] = {
    "classic": {"vad_engine": "webrtc", "asr_engine": "sphinx", "llm_engine": "eliza", "tts_engine": "espeak"},
    "neural": {
        "vad_engine": "silero",
        "asr_engine": "transformers",
        "llm_engine": "transformers",
        "tts_engine": "kokoro",
    },
}
"""The engines of each profile; a setting of an engine's own name overrides them one by one."""

_DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
_DEVICE_OR_NONE = r"^(auto|cpu|mps|cuda(:\d+)?)?$"

Milliseconds = Annotated[int, Field(ge=0, le=600_000)]


class BadSettings(ValueError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


class Settings(BaseSettings):
    """Every setting with its default; `PARLEY_` and the upper-case name set it."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", extra="ignore", frozen=True)

    # where
    profile: Profile = Field("classic", description="the set of engines that a start brings up: classic or neural")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis >= 7.0 or Valkey >= 7.2: redis://, rediss:// or unix://; without it `parley up` starts one",
    )
    host: str = Field("127.0.0.1", description="address that the edge listens on")
    port: int = Field(8000, ge=0, le=65535, description="port that the edge listens on")

    # engines
    vad_engine: str = Field("", description="webrtc, silero, or module:Class; empty: the profile's, as below")
    endpoint_engine: str = Field(
        "fixed", description="what decides that a turn is over: fixed, pace, smart-turn, or module:Class"
    )
    smart_turn_model: str = Field(
        "pipecat-ai/smart-turn-v3/smart-turn-v3.2-cpu.onnx",
        description="the model of smart-turn: a file, or owner/repository/file.onnx of the hub",
    )
    asr_engine: str = Field("", description="sphinx, transformers, scripted, or module:Class")
    llm_engine: str = Field(
        "", description="eliza, transformers, openai, omni, scripted, scripted-omni, or module:Class"
    )
    tts_engine: str = Field("", description="espeak, kokoro, transformers, f5, openai, scripted, or module:Class")
    vad_slots: int = Field(400, ge=1, le=10_000, description="sessions that one vad worker listens to")
    asr_slots: int = Field(4, ge=1, le=256, description="decoders that one sphinx worker runs at once")

    # models, for the engines that load or call one
    asr_model: str = Field("", description="a model of the hub or a folder; empty: what suits the device")
    llm_model: str = Field("", description="a model of the hub or a folder, or the name that an endpoint gives it")
    tts_model: str = Field("", description="a model of the hub or a folder, or the name that an endpoint gives it")
    device: str = Field("auto", pattern=_DEVICE, description="auto, cpu, cuda, cuda:1 (one of several), mps")
    asr_device: str = Field(
        "", pattern=_DEVICE_OR_NONE, description="the asr stage's own, under `parley up`; empty: PARLEY_DEVICE"
    )
    llm_device: str = Field("", pattern=_DEVICE_OR_NONE, description="the llm stage's own")
    tts_device: str = Field("", pattern=_DEVICE_OR_NONE, description="the tts stage's own")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="numbers that a model calculates with; auto: 16 bits where the device is fast with them"
    )
    quantize: Literal["none", "int8"] = Field("none", description="int8: linear layers in eight bits, on a CPU")
    compile: bool = Field(False, description="compile models at start: minutes of warm-up for less time per step")
    threads: int = Field(0, ge=0, le=512, description="threads of one worker's model on a CPU; 0: the library's choice")
    device_memory: float = Field(1.0, gt=0, le=1, description="share of the GPU's memory that one worker may take")
    cache_memory: float = Field(
        0.4,
        gt=0,
        le=0.95,
        description="share of the GPU memory left after loading that the chat model keeps for conversations",
    )
    batch: int = Field(16, ge=1, le=1024, description="sessions that a model hears or speaks for in one call, at most")
    batch_ms: float = Field(3.0, ge=0, le=100, description="how long a call waits for others to go with it")
    model_slots: int = Field(64, ge=1, le=4096, description="pieces of work that one worker with a model takes at once")
    context_tokens: int = Field(
        0, ge=0, description="tokens of a conversation that the chat model is told; 0: as many as it takes"
    )
    reply_tokens: int = Field(400, ge=1, le=32_768, description="tokens after which a reply is cut off")
    temperature: float = Field(0.7, ge=0, le=2, description="chat model: 0 gives always the likeliest word")
    data_dir: Path = Field(
        Path("~/.local/share/parley").expanduser(), description="where what was added lies: the cloned voices"
    )

    # endpoints that speak OpenAI's protocol, for the engines `openai`
    llm_url: str = Field("", description="base URL of a chat endpoint; empty: OpenAI's own")
    llm_key: SecretStr | None = Field(None, description="its key; else OPENAI_API_KEY")
    llm_fallback_url: str = Field("", description="a second endpoint, asked when the first fails before its first word")
    llm_fallback_key: SecretStr | None = Field(None, description="its key")
    llm_fallback_model: str = Field("", description="its model; empty: the same name")
    tts_url: str = Field("", description="base URL of a speech endpoint; empty: OpenAI's own")
    tts_key: SecretStr | None = Field(None, description="its key; else OPENAI_API_KEY")
    first_token_s: float = Field(5.0, gt=0, le=300, description="an endpoint that has not begun by then has failed")
    next_token_s: float = Field(5.0, gt=0, le=300, description="one that pauses for so long has failed")

    # cloned voices
    f5_steps: int = Field(8, ge=4, le=32, description="f5: steps of the solver; fewer are faster, more are cleaner")
    f5_cfg: float = Field(2.0, ge=0, le=10, description="f5: how closely it keeps to text and reference")
    f5_sway: float = Field(-1.0, ge=-1, le=1, description="f5: where the steps lie; -1: most at the beginning")

    # workers
    lease_ms: int = Field(
        2000, ge=200, le=60_000, description="silence of a worker after which its work is given to another"
    )
    max_deliveries: int = Field(
        3, ge=1, le=20, description="attempts at a piece of work before it goes to the dead letters"
    )
    drain_ms: Milliseconds = Field(5000, description="how long a stopping worker finishes what it has in hand")
    gather_ms: float = Field(2.0, ge=0, le=50, description="writes are gathered for so long into one pipeline")
    read_pace_ms: float = Field(
        4.0, ge=0, le=50, description="longest pause after a read of the streams, while much comes"
    )

    # sessions
    max_sessions: int = Field(500, ge=1, description="sessions that one edge takes; more are refused")
    max_session_s: int = Field(3600, ge=1, description="a session is closed after this time")
    reply_ahead_s: float = Field(
        30.0, ge=0.1, le=600, description="reply audio is sent at most so far ahead of its playing"
    )
    queue_age_limit_ms: Milliseconds = Field(
        5000, description="new sessions are refused while a stage is so far behind"
    )
    public_url: str = Field(
        "", description="the URL that a phone carrier was given, where a proxy stands before the edge"
    )
    twilio_auth_token: SecretStr | None = Field(
        None, description="checks the signature of Twilio's connections where set"
    )

    first_clause_words: int = Field(
        3, ge=0, le=50, description="words after which a reply's first clause is spoken early; 0: only whole sentences"
    )

    # defaults that a session can change
    endpoint_ms: Milliseconds = Field(500, description="silence after which a turn is over")
    pause_ms: Milliseconds = Field(160, description="silence after which a turn may be over")
    speculations: int = Field(
        3, ge=0, le=20, description="pauses within a turn at which its reply is prepared; 0: only when the turn is over"
    )
    complete_ms: Milliseconds = Field(250, description="silence that ends a turn which smart-turn takes for complete")
    incomplete_ms: Milliseconds = Field(2000, description="silence that ends one which it does not")
    language: str = Field("en", description="language of sessions that ask for none")
    route: Literal["cascade", "omni"] = Field(
        "cascade", description="omni: a chat model that hears answers the sound itself, not its transcript"
    )
    greeting: str = Field("", description="what the agent says first; empty: it waits")
    goodbye: str = Field("", description="what it says before it hangs up")
    idle_ms: Milliseconds = Field(0, description="silence after which it asks who is there; 0: never")
    instructions: str = Field("", description="system prompt of sessions that bring none")
    voice: str = Field("", description="voice of sessions that ask for none; empty: the engine's default")

    # the scripted engines
    scripted_transcript: str = Field("hello there", description="what the scripted recogniser understands")
    scripted_text: str = Field(
        "This is a scripted reply with a good number of words in it that streams in twenty deltas to its end.",
        description="what the scripted chat model replies",
    )
    scripted_deltas: int = Field(20, ge=1, le=1000, description="deltas in which the scripted reply is streamed")
    scripted_asr_ms: Milliseconds = Field(0, description="delay of the scripted final transcript")
    scripted_asr_least_ms: Milliseconds = Field(0, description="audio with less speech than this has no words")
    scripted_llm_ms: Milliseconds = Field(0, description="delay of the scripted first token")
    scripted_tts_ms: Milliseconds = Field(0, description="delay of the scripted first audio")
    scripted_tts_seconds: float = Field(1.0, gt=0, le=60, description="length of each scripted sentence")

    # what is said about it all
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text in a terminal, else json")
    log_content: bool = Field(False, description="logs, traces and the monitor show what was said, too")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of this process's Prometheus metrics; 0: none")
    metrics_host: str = Field("127.0.0.1", description="address that its metrics are offered on")
    traces: Literal["off", "otlp", "console"] = Field(
        "off", description="where OpenTelemetry traces go; otlp: as OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    traces_share: float = Field(1.0, ge=0, le=1, description="share of the turns that are traced")
    monitor: Literal["auto", "on", "off"] = Field(
        "auto", description="the page /monitor; auto: only where the edge listens on this machine alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_engines_of_profile(cls, values: dict[str, Any]) -> dict[str, Any]:
        profile = values.get("profile", "classic")
        engines = PROFILES.get(profile, {}) if isinstance(profile, str) else {}  # type: ignore[call-overload]
        return {**values, **{name: engine for name, engine in engines.items() if not values.get(name)}}


def describe_errors(error: ValidationError) -> str:
    """One line for each wrong setting: its name in the environment, its value, what is allowed."""
    lines = []
    for item in error.errors():
        name = "PARLEY_" + "_".join(str(part) for part in item["loc"]).upper()
        lines.append(f"{name}={item['input']!r}: {item['msg']}")
    return "\n".join(lines)


@cache
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        BadSettings: naming every setting that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings(describe_errors(error)) from None
