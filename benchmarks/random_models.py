"""Models of the real architectures with random weights, saved as their hubs' folders are: for tests (tiny) and for speed (full).

What such a model says means nothing; how long it takes to say it does, at full size. Sizes are those of the models' own
published configurations.
"""

import json
import warnings
from pathlib import Path
from typing import Any

_PHONEMES = ';:,.!?—…"() “”ʣʥʦʨᵝAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ\u0303'
_FRAMES_PER_PHONEME = -2.75
"""Bias of the duration's logits: 50 * sigmoid(-2.75) = 3 frames of 25 ms, a usual speaking rate."""


def kokoro(folder: Path, *, tiny: bool) -> Path:
    """Kokoro-82M: its configuration, weights, and three voices."""
    import torch
    from kokoro import KModel

    config: dict[str, Any] = {
        "istftnet": {
            "upsample_kernel_sizes": [20, 12],
            "upsample_rates": [10, 6],
            "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]] * (1 if tiny else 3),
            "resblock_kernel_sizes": [3] if tiny else [3, 7, 11],
            "upsample_initial_channel": 512,
        },
        "dropout": 0.0,
        "hidden_dim": 512,
        "max_dur": 50,
        "n_layer": 1 if tiny else 3,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": 128,
        "text_encoder_kernel_size": 5,
        "plbert": {
            "hidden_size": 32 if tiny else 768,
            "num_attention_heads": 2 if tiny else 12,
            "intermediate_size": 64 if tiny else 2048,
            "max_position_embeddings": 512,
            "num_hidden_layers": 1 if tiny else 12,
            "dropout": 0.0,
        },
        "vocab": {char: place for place, char in enumerate(_PHONEMES, 1)},
    }
    (folder / "voices").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "kokoro-v1_0.pth"
    torch.save({}, weights)  # the package makes the model only from a file of weights
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its way of normalising weights is deprecated
        model = KModel(repo_id=str(folder), config=str(folder / "config.json"), model=str(weights))
    with torch.no_grad():
        model.predictor.duration_proj.linear_layer.bias.fill_(_FRAMES_PER_PHONEME)
    parts = ("bert", "bert_encoder", "predictor", "text_encoder", "decoder")
    torch.save({part: getattr(model, part).state_dict() for part in parts}, weights)
    for name in ("af_heart", "am_adam", "bf_emma", "hf_alpha"):
        torch.save(torch.randn(510, 1, 256) * 0.3, folder / "voices" / f"{name}.pt")
    return folder


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


_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def _transformers() -> Any:
    """The library, quiet."""
    import transformers

    library: Any = transformers
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def tokenizer(folder: Path, size: int, special: list[str]) -> Any:
    """A byte-level BPE tokenizer of so many tokens: bytes, filler, and the special ones last."""
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


def whisper(folder: Path, *, tiny: bool, tokens: int | None = None) -> Path:
    """whisper-large-v3-turbo: 809 million parameters, 32 layers of encoder, 4 of decoder.

    `tokens`: that many are decoded for each utterance, as random weights do not know when to end.
    """
    import torch

    hf = _transformers()
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGES), "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    stamps = [f"<|{0.02 * step:.2f}|>" for step in range(1501)]
    size = 2400 if tiny else 51_866
    tokenizer(folder, size, [*special, *stamps])
    made = hf.WhisperTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), **dict.fromkeys(_ROLES, "<|endoftext|>")
    )
    places = {token: made.convert_tokens_to_ids(token) for token in special}
    end = places["<|endoftext|>"]
    extractor = hf.WhisperFeatureExtractor(feature_size=80 if tiny else 128)
    hf.WhisperProcessor(extractor, made).save_pretrained(folder)
    torch.manual_seed(1)
    config = hf.WhisperConfig(
        vocab_size=size,
        num_mel_bins=80 if tiny else 128,
        d_model=32 if tiny else 1280,
        encoder_layers=1 if tiny else 32,
        decoder_layers=1 if tiny else 4,
        encoder_attention_heads=2 if tiny else 20,
        decoder_attention_heads=2 if tiny else 20,
        encoder_ffn_dim=64 if tiny else 5120,
        decoder_ffn_dim=64 if tiny else 5120,
        init_std=1.0 if tiny else 0.02,  # so that a small one does not write the same whatever it hears
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
        # A real one does not write these where words are wanted.
        suppress_tokens=sorted(
            {*range(size - len(special) - len(stamps), size)} - ({end} if tokens is None else set())
        ),
        begin_suppress_tokens=[],
        max_new_tokens=tokens,
    )
    model.save_pretrained(folder)
    return folder


def moonshine(folder: Path, *, streaming: bool = False) -> Path:
    """A tiny Moonshine, or one of the streaming kind."""
    import torch

    hf = _transformers()
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

    hf = _transformers()
    special = ["<unk>", "<pad>", "<blank>"]
    made = tokenizer(folder, 400, special)
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")  # noqa: S106
    hf.ParakeetProcessor(hf.ParakeetFeatureExtractor(), tokens).save_pretrained(folder)
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


_CHATML = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages if message.role != 'system' or not loop.first %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ (call.function or call) | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def chat(folder: Path, *, tiny: bool) -> Path:
    """Qwen3-1.7B: 28 layers of 2048, in the 16 bits in which it is published.

    Where it is tiny it says nothing but whole words of filler and never ends by itself; at full size the tokens that
    would be otherwise are so few that they do not show.
    """
    import torch

    hf = _transformers()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    size = 1024 if tiny else 151_936
    made = tokenizer(folder, size, special)
    letters = 256  # the bytes: the first tokens
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")  # noqa: S106
    tokens.chat_template = _CHATML
    tokens.save_pretrained(folder)
    end, pad = tokens.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = hf.Qwen3Config(
        vocab_size=size,
        hidden_size=32 if tiny else 2048,
        intermediate_size=64 if tiny else 6144,
        num_hidden_layers=2 if tiny else 28,
        num_attention_heads=4 if tiny else 16,
        num_key_value_heads=2 if tiny else 8,
        head_dim=16 if tiny else 128,
        max_position_embeddings=2048 if tiny else 40_960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=not tiny,
        initializer_range=0.6 if tiny else 0.02,
        eos_token_id=end,
        pad_token_id=pad,
        dtype="float32" if tiny else "bfloat16",
    )
    torch.manual_seed(1)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if tiny else torch.bfloat16)
    try:
        model = hf.Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(usual)
    if tiny:
        with torch.no_grad():  # a row of zeros is never the likeliest of a thousand
            model.lm_head.weight[:letters] = 0
            model.lm_head.weight[-len(special) :] = 0
    model.generation_config = hf.GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, eos_token_id=[end, pad], pad_token_id=pad
    )
    model.save_pretrained(folder)
    return folder
