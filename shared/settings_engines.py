"""The settings of engines and the models behind them: three sections of the table in `shared.settings`."""

from typing import Annotated, Literal

from pydantic import BaseModel, SecretStr

from shared.settings_table import Setting

_DEVICE = r"auto|cpu|mps|cuda(:\d+)?"
_DEVICES = "auto, cpu, mps, cuda, or cuda:1 (one of several)"


class EngineSettings(BaseModel):
    """Engines"""

    vad_engine: Annotated[
        str, Setting("webrtc, silero, or module:Class; empty: the profile's, as for the other stages", stage="vad")
    ] = ""
    endpoint_engine: Annotated[
        str, Setting("Decides that a turn is over: fixed, pace, smart-turn, fused, or module:Class", stage="vad")
    ] = "fixed"
    smart_turn_model: Annotated[
        str, Setting("Model of smart-turn and fused: one of the catalogue, or an ONNX file", stage="vad")
    ] = "smart-turn-v3.2"
    asr_engine: Annotated[
        str, Setting("sphinx, faster-whisper, transformers, openai, scripted, or module:Class", stage="asr")
    ] = ""
    llm_engine: Annotated[
        str,
        Setting("eliza, llama-cpp, transformers, openai, omni, scripted, scripted-omni, or module:Class", stage="llm"),
    ] = ""
    tts_engine: Annotated[
        str, Setting("espeak, piper, kokoro, transformers, f5, openai, scripted, or module:Class", stage="tts")
    ] = ""
    vad_slots: Annotated[int, Setting("Sessions of one vad worker", 1, 10_000, stage="vad")] = 400
    asr_slots: Annotated[int, Setting("Utterances that one sphinx worker decodes at once", 1, 256, stage="asr")] = 4


class ModelSettings(BaseModel):
    """Models that a worker loads"""

    asr_model: Annotated[
        str,
        Setting(
            "Model of the catalogue or the hub, a folder, or an endpoint's name of its model; empty: one that suits the device",
            stage="asr",
        ),
    ] = ""
    llm_model: Annotated[
        str,
        Setting(
            "Model of the catalogue or the hub, a folder, a .gguf file, or an endpoint's name of its model", stage="llm"
        ),
    ] = ""
    tts_model: Annotated[
        str, Setting("Model of the catalogue or the hub, a folder, or an endpoint's name of its model", stage="tts")
    ] = ""
    device: Annotated[
        str, Setting("Device on which models run; auto: the best there is", pattern=_DEVICE, shape=_DEVICES)
    ] = "auto"
    asr_device: Annotated[
        str,
        Setting(
            "Device of the asr stage under `parley up`; empty: PARLEY_DEVICE",
            pattern=f"|{_DEVICE}", shape=_DEVICES, stage="asr",
        ),
    ] = ""  # fmt: skip
    llm_device: Annotated[
        str, Setting("Device of the llm stage", pattern=f"|{_DEVICE}", shape=_DEVICES, stage="llm")
    ] = ""
    tts_device: Annotated[
        str, Setting("Device of the tts stage", pattern=f"|{_DEVICE}", shape=_DEVICES, stage="tts")
    ] = ""
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Setting("Number format of models; auto: 16 bits where the device is fast with them"),
    ] = "auto"
    quantize: Annotated[
        Literal["none", "int8"], Setting("int8: linear layers in 8 bits, on a CPU; faster-whisper's default there")
    ] = "none"
    compile: Annotated[bool, Setting("Compile models at start: minutes of warm-up, then less time per step")] = False
    threads: Annotated[int, Setting("CPU threads of one worker's model; 0: chosen by the engine", 0, 512)] = 0
    device_memory: Annotated[float, Setting("Share of the GPU's memory that one worker may use", 0.01, 1)] = 1.0
    cache_memory: Annotated[
        float,
        Setting("Share of the GPU memory left after loading that is kept for conversations", 0.01, 0.95, stage="llm"),
    ] = 0.4
    batch: Annotated[int, Setting("Largest number of sessions in one call of a model", 1, 1024)] = 16
    batch_ms: Annotated[float, Setting("How long a call waits for others to join it", 0, 100, "ms")] = 3.0
    model_slots: Annotated[int, Setting("Jobs that one worker with a model takes at once", 1, 4096)] = 64
    context_tokens: Annotated[
        int, Setting("Most tokens of a conversation in a prompt; 0: as many as the model takes", 0, stage="llm")
    ] = 0
    summaries: Annotated[
        bool,
        Setting(
            "Summarise the beginning of a long conversation, after a reply, instead of leaving it out of prompts",
            stage="llm",
        ),
    ] = False
    summary_model: Annotated[
        str, Setting("Model of summaries, in the engine of the replies; empty: the model of the replies", stage="llm")
    ] = ""
    reply_tokens: Annotated[
        int, Setting("Longest reply; it ends with the last sentence that fits", 1, 32_768, "tokens", stage="llm")
    ] = 400
    temperature: Annotated[
        float, Setting("Randomness of the chat model; 0: always the likeliest token", 0, 2, stage="llm")
    ] = 0.7
    f5_steps: Annotated[int, Setting("f5: solver steps; fewer are faster, more are cleaner", 4, 32, stage="tts")] = 8
    f5_cfg: Annotated[
        float, Setting("f5: how closely speech follows the text and the reference voice", 0, 10, stage="tts")
    ] = 2.0
    f5_sway: Annotated[
        float, Setting("f5: distribution of the steps; -1: most at the beginning", -1, 1, stage="tts")
    ] = -1.0


class EndpointSettings(BaseModel):
    """Endpoints that speak OpenAI's protocol"""

    asr_url: Annotated[str, Setting("Base URL of a transcription endpoint; empty: OpenAI's", stage="asr")] = ""
    asr_key: Annotated[
        SecretStr | None, Setting("Key of the transcription endpoint; unset: OPENAI_API_KEY", stage="asr")
    ] = None
    llm_url: Annotated[str, Setting("Base URL of a chat endpoint; empty: OpenAI's", stage="llm")] = ""
    llm_key: Annotated[SecretStr | None, Setting("Key of the chat endpoint; unset: OPENAI_API_KEY", stage="llm")] = None
    llm_fallback_url: Annotated[
        str, Setting("Second endpoint, asked when the first fails before its first token", stage="llm")
    ] = ""
    llm_fallback_key: Annotated[SecretStr | None, Setting("Key of the second endpoint", stage="llm")] = None
    llm_fallback_model: Annotated[
        str, Setting("Model of the second endpoint; empty: PARLEY_LLM_MODEL", stage="llm")
    ] = ""
    tts_url: Annotated[str, Setting("Base URL of a speech endpoint; empty: OpenAI's", stage="tts")] = ""
    tts_key: Annotated[SecretStr | None, Setting("Key of the speech endpoint; unset: OPENAI_API_KEY", stage="tts")] = (
        None
    )
    first_token_s: Annotated[
        float, Setting("An endpoint that has sent nothing after this time has failed", 0.01, 300, "s")
    ] = 5.0
    next_token_s: Annotated[
        float, Setting("An endpoint that pauses for longer than this has failed", 0.01, 300, "s")
    ] = 5.0


class ScriptedSettings(BaseModel):
    """Scripted engines, for load tests"""

    scripted_transcript: Annotated[str, Setting("What the recogniser understands", stage="asr")] = "hello there"
    scripted_asr_ms: Annotated[int, Setting("Delay of the final transcript", 0, 600_000, "ms", stage="asr")] = 0
    scripted_asr_least_ms: Annotated[
        int, Setting("Audio with less speech than this has no words", 0, 600_000, "ms", stage="asr")
    ] = 0
    scripted_text: Annotated[str, Setting("What the chat model replies", stage="llm")] = (
        "This is a scripted reply with a good number of words in it that streams in twenty deltas to its end."
    )
    scripted_deltas: Annotated[int, Setting("Deltas in which the reply is streamed", 1, 1000, stage="llm")] = 20
    scripted_llm_ms: Annotated[int, Setting("Delay of the first token", 0, 600_000, "ms", stage="llm")] = 0
    scripted_tts_ms: Annotated[int, Setting("Delay of the first audio", 0, 600_000, "ms", stage="tts")] = 0
    scripted_tts_seconds: Annotated[float, Setting("Length of each sentence", 0.01, 60, "s", stage="tts")] = 1.0
