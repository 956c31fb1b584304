"""Recognisers with random weights."""

import json
from pathlib import Path

from tests.support.random_models.parts import ROLES, Size, library, tekken, tokenizer

_LANGUAGES = (
    "en",
    "zh",
    "de",
    "es",
    "ru",
    "ko",
    "fr",
    "ja",
    "pt",
    "tr",
    "pl",
    "ca",
    "nl",
    "ar",
    "sv",
    "it",
    "id",
    "hi",
)


def whisper(folder: Path, size: Size = "tiny", *, tokens: int | None = None) -> Path:
    """Whisper: full is large-v3-turbo (809 million parameters, 32 and 4 layers), laptop is base (74 million, 6 and 6).

    `tokens`: that many are decoded for each utterance, as random weights do not know when to end.
    """
    import torch

    hf = library()
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGES), "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    stamps = [f"<|{0.02 * step:.2f}|>" for step in range(1501)]
    tiny, width, bands = size == "tiny", {"tiny": 32, "laptop": 512, "full": 1280}[size], 128 if size == "full" else 80
    ears, mouth = {"tiny": (1, 1), "laptop": (6, 6), "full": (32, 4)}[size]
    known = 2400 if tiny else 51_866
    tokenizer(folder, known, [*special, *stamps])
    made = hf.WhisperTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), **dict.fromkeys(ROLES, "<|endoftext|>")
    )
    places = {token: made.convert_tokens_to_ids(token) for token in special}
    end = places["<|endoftext|>"]
    extractor = hf.WhisperFeatureExtractor(feature_size=bands)
    hf.WhisperProcessor(extractor, made).save_pretrained(folder)
    torch.manual_seed(1)
    config = hf.WhisperConfig(
        vocab_size=known,
        num_mel_bins=bands,
        d_model=width,
        encoder_layers=ears,
        decoder_layers=mouth,
        encoder_attention_heads=max(2, width // 64),
        decoder_attention_heads=max(2, width // 64),
        encoder_ffn_dim=64 if tiny else 4 * width,
        decoder_ffn_dim=64 if tiny else 4 * width,
        init_std=1.0 if tiny else 0.02,  # else a small one writes the same for every input
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=places["<|startoftranscript|>"],
    )
    model = hf.WhisperForConditionalGeneration(config)
    model.generation_config = hf.GenerationConfig(
        decoder_start_token_id=places["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        max_length=448,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": places[f"<|{code}|>"] for code in _LANGUAGES},
        task_to_id={"transcribe": places["<|transcribe|>"], "translate": places["<|translate|>"]},
        no_timestamps_token_id=places["<|notimestamps|>"],
        prev_sot_token_id=places["<|startofprev|>"],
        # A real model does not write these in place of words.
        suppress_tokens=sorted(
            {*range(known - len(special) - len(stamps), known)} - ({end} if tokens is None else set())
        ),
        begin_suppress_tokens=[],
        max_new_tokens=tokens,
    )
    model.save_pretrained(folder)
    return folder


def moonshine(folder: Path, *, streaming: bool = False) -> Path:
    """A tiny Moonshine, or one of the streaming kind."""
    import torch

    hf = library()
    special = ["<unk>", "<s>", "</s>"]
    made = tokenizer(folder, 400, special)
    names = ("unk_token", "bos_token", "eos_token", "pad_token")
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, **dict(zip(names, [*special, special[-1]], strict=True)))
    torch.manual_seed(1)
    size = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "initializer_range": 0.6}
    ends = {"bos_token_id": 398, "eos_token_id": 399, "pad_token_id": 399, "decoder_start_token_id": 398}
    if streaming:
        encoder = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = hf.MoonshineStreamingConfig(
            encoder_config={**encoder, "num_key_value_heads": 2, "sliding_windows": [[16, 4]]},
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16, **size, **ends,
        )  # fmt: skip
        model = hf.MoonshineStreamingForConditionalGeneration(config)
        hf.MoonshineStreamingProcessor(hf.Wav2Vec2FeatureExtractor(return_attention_mask=True), tokens).save_pretrained(
            folder
        )
    else:
        layers = {"encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1}
        heads = {"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2}
        model = hf.MoonshineForConditionalGeneration(hf.MoonshineConfig(**layers, **heads, **size, **ends))
        hf.Wav2Vec2Processor(hf.Wav2Vec2FeatureExtractor(return_attention_mask=True), tokens).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def parakeet(folder: Path, *, tdt: bool) -> Path:
    """A tiny Parakeet: with CTC, or with the token-and-duration transducer."""
    import torch

    hf = library()
    special = ["<unk>", "<pad>", "<blank>"]
    made = tokenizer(folder, 400, special)
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")
    decoder_type = "tdt" if tdt else "ctc"
    hf.ParakeetProcessor(hf.ParakeetFeatureExtractor(), tokens, decoder_type=decoder_type).save_pretrained(folder)
    encoder = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "subsampling_conv_channels": 16, "conv_kernel_size": 9, "initializer_range": 0.5,
    }  # fmt: skip
    torch.manual_seed(1)
    if tdt:
        config = hf.ParakeetTDTConfig(
            vocab_size=400, blank_token_id=399, pad_token_id=398, decoder_hidden_size=32, num_decoder_layers=1,
            durations=[0, 1, 2, 3, 4], encoder_config=encoder,
        )  # fmt: skip
        model = hf.ParakeetForTDT(config)
        model.generation_config.decoder_start_token_id = 399
    else:
        model = hf.ParakeetForCTC(hf.ParakeetCTCConfig(vocab_size=400, pad_token_id=399, encoder_config=encoder))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(2 if tdt else 3)
    model.save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """A tiny wav2vec 2 with CTC over letters, of the kind that was trained without masks."""
    import torch

    hf = library()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({letter: place for place, letter in enumerate(letters)}))
    hf.Wav2Vec2Processor(
        hf.Wav2Vec2FeatureExtractor(return_attention_mask=False), hf.Wav2Vec2CTCTokenizer(folder / "vocab.json")
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = hf.Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    model = hf.Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    return folder


_REQUEST = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% else %}{{ part.text }}{% endif %}\
{% endfor %}{% endif %}{% if not loop.last or add_generation_prompt %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def listening_chat(folder: Path, *, qwen: bool) -> Path:
    """A tiny chat model that hears: Qwen3-ASR, whose prompt has the language and hints, or GLM-ASR, whose prompt has neither."""
    import torch

    hf = library()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"]
    size = 1024
    made = tokenizer(folder, size, special)
    tokens = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={
            "audio_bos_token": "<|audio_start|>", "audio_token": "<|audio_pad|>", "audio_eos_token": "<|audio_end|>"
        },
    )  # fmt: skip
    end, pad, audio = tokens.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>", "<|audio_pad|>"])
    text = {
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.6,
        "eos_token_id": end, "pad_token_id": pad, "bos_token_id": pad,
    }  # fmt: skip
    torch.manual_seed(1)
    if qwen:
        ears = {"encoder_layers": 1, "d_model": 32, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
        hf.Qwen3ASRProcessor(hf.Qwen3ASRFeatureExtractor(), tokens, chat_template=_REQUEST).save_pretrained(folder)
        config = hf.Qwen3ASRConfig(
            audio_config={**ears, "output_dim": 32, "downsample_hidden_size": 8, "initializer_range": 0.2},
            text_config=text, audio_token_id=audio, eos_token_id=[end, pad], pad_token_id=pad,
        )  # fmt: skip
        model = hf.Qwen3ASRForConditionalGeneration(config)
    else:
        ears = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 128}
        hf.GlmAsrProcessor(
            hf.WhisperFeatureExtractor(feature_size=128), tokens, chat_template=_REQUEST, audio_token="<|audio_pad|>"
        ).save_pretrained(folder)  # fmt: skip
        config = hf.GlmAsrConfig(
            audio_config={**ears, "initializer_range": 0.2}, text_config=text, audio_token_id=audio
        )
        model = hf.GlmAsrForConditionalGeneration(config)
    with torch.no_grad():  # only filler: a row of zeros is never the likeliest of a thousand
        model.get_output_embeddings().weight[:256] = 0
        model.get_output_embeddings().weight[-len(special) :] = 0
    model.save_pretrained(folder)
    return folder


def voxtral(folder: Path) -> Path:
    """A tiny Voxtral with its own tokenizer."""
    import torch
    from transformers.tokenization_mistral_common import MistralCommonBackend

    hf = library()
    tokens = MistralCommonBackend(tokenizer_path=str(tekken(folder, 400)))
    hf.VoxtralProcessor(hf.WhisperFeatureExtractor(feature_size=128), tokens).save_pretrained(folder)
    ears = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 128}
    text = {
        "vocab_size": len(tokens), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.6, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 11,
    }  # fmt: skip
    torch.manual_seed(1)
    config = hf.VoxtralConfig(
        audio_config={**ears, "initializer_range": 0.2}, text_config=text,
        audio_token_id=tokens.convert_tokens_to_ids("[AUDIO]"),
    )  # fmt: skip
    model = hf.VoxtralForConditionalGeneration(config)
    with torch.no_grad():  # only filler: a row of zeros is never the likeliest of thousands
        model.get_output_embeddings().weight[:-400] = 0
    model.save_pretrained(folder)
    return folder


def voxtral_realtime(folder: Path, *, pauses: float = 60.0) -> Path:
    """A tiny Voxtral Realtime, which remembers no more than 4 s.

    `pauses`: how often it writes nothing: 60 for about every other time; 0 for never.
    """
    import torch
    from transformers.tokenization_mistral_common import MistralCommonBackend

    hf = library()
    tokens = MistralCommonBackend(tokenizer_path=str(tekken(folder, 400, streaming=True)))
    hf.VoxtralRealtimeProcessor(hf.VoxtralRealtimeFeatureExtractor(), tokens).save_pretrained(folder)
    ears = {
        "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "head_dim": 16,
        "sliding_window": 60, "initializer_range": 0.8, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }  # fmt: skip
    text = {
        "vocab_size": len(tokens), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4, "sliding_window": 45,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 11,
    }  # fmt: skip
    torch.manual_seed(1)
    config = hf.VoxtralRealtimeConfig(audio_config=ears, text_config=text, tie_word_embeddings=False)
    model = hf.VoxtralRealtimeForConditionalGeneration(config)
    with torch.no_grad():  # only filler and pauses, and depending more on the audio than on the text so far
        for weight in model.model.multi_modal_projector.parameters():
            weight.normal_(0, 0.3)
        weights = model.get_output_embeddings().weight
        weights[:-400] = 0
        weights[tokens.convert_tokens_to_ids("[STREAMING_PAD]")] = pauses * weights[-400:].mean(0)
    model.save_pretrained(folder)
    return folder
