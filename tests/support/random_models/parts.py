"""What the builders share: the quiet library, and tokenizers of bytes and filler."""

import json
from pathlib import Path
from typing import Any, Literal

Size = Literal["tiny", "laptop", "full"]
"""Tiny is for tests, laptop is the default size on a CPU, full that on a GPU."""

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def library() -> Any:
    """The transformers library without its logs and progress bars."""
    import transformers

    quiet: Any = transformers
    quiet.logging.set_verbosity_error()
    quiet.logging.disable_progress_bar()
    return quiet


def tokenizer(folder: Path, size: int, special: list[str]) -> Any:
    """A byte-level BPE tokenizer with `size` tokens: bytes, filler, and the special ones last."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    filler = [f"Ġw{number}" for number in range(size - len(letters) - len(special))]
    vocabulary = {token: place for place, token in enumerate([*letters, *filler])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return made


def tekken(folder: Path, words: int, *, streaming: bool = False) -> Path:
    """A tokenizer of mistral-common with audio: its special tokens, then bytes, then `words` tokens of filler."""
    from base64 import b64encode

    from mistral_common.tokens.tokenizers.base import SpecialTokens
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    control = [SpecialTokens(token["token_str"]).value for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    control += ["[ARGS]", "[CALL_ID]", "[AUDIO]", "[BEGIN_AUDIO]", "[TRANSCRIBE]"]
    if streaming:
        control += ["[STREAMING_PAD]", "[STREAMING_WORD]"]
    known = [bytes([byte]) for byte in range(256)] + [f" w{number}".encode() for number in range(words)]
    vocabulary = [
        {"rank": rank, "token_bytes": b64encode(token).decode(), "token_str": token.decode(errors="replace")}
        for rank, token in enumerate(known)
    ]
    config = {
        "pattern": r"[^\s]+|\s+", "num_vocab_tokens": len(known), "default_vocab_size": len(known) + len(control),
        "default_num_special_tokens": len(control), "version": "v13" if streaming else "v11",
    }  # fmt: skip
    audio: dict[str, Any] = {
        "sampling_rate": 16_000, "frame_rate": 12.5,
        "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
    }  # fmt: skip
    if streaming:
        audio |= {
            "transcription_format": "streaming", "transcription_delay_ms": 480, "streaming_look_ahead_ms": 2.5,
            "streaming_look_back_ms": 52.5, "streaming_n_left_pad_tokens": 32,
        }  # fmt: skip
    else:
        audio["chunk_length_s"] = 30.0
    special = [{"rank": rank, "token_str": token, "is_control": True} for rank, token in enumerate(control)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tekken.json"
    file.write_text(json.dumps({"config": config, "vocab": vocabulary, "special_tokens": special, "audio": audio}))
    return file
