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
{%- for message in (messages[1:] if messages[0].role == 'system' else messages) %}<|im_start|>{{ message.role }}
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


def vits(folder: Path, *, speakers: int = 1, language: str | None = "eng", uroman: bool = False) -> Path:
    """A tiny VITS, as an MMS of one language, or with several speakers."""
    import torch

    hf = _transformers()
    folder.mkdir(parents=True, exist_ok=True)
    letters = "k'abcdefghijlmnopqrstuvwxyz- _"  # MMS pads with the letter that comes first
    (folder / "vocab.json").write_text(json.dumps({letter: place for place, letter in enumerate(letters)}))
    marks = {"pad_token": "k", "unk_token": "_"}
    made = hf.VitsTokenizer(folder / "vocab.json", language=language, phonemize=False, is_uroman=uroman, **marks)
    made.save_pretrained(folder)
    torch.manual_seed(1)
    config = hf.VitsConfig(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=2, ffn_dim=64, flow_size=32, spectrogram_bins=33,
        upsample_initial_channel=16, duration_predictor_filter_channels=32, posterior_encoder_num_wavenet_layers=1,
        num_speakers=speakers, speaker_embedding_size=16 if speakers > 1 else 0,
        speaking_rate=1.5,  # random weights speak slowly
    )  # fmt: skip
    model = hf.VitsModel(config)
    with torch.no_grad():
        model.decoder.conv_post.weight.mul_(0.03)  # and loudly
    model.save_pretrained(folder)
    return folder


_LASTING = -3.0
"""Bias of the logits of SpeechT5's end: most texts last for several steps, and not for all that they may."""


def speecht5(folder: Path, *, speakers: int = 2) -> Path:
    """A tiny SpeechT5 with its vocoder and the x-vectors of so many speakers."""
    import numpy as np
    import torch

    hf = _transformers()
    made = tokenizer(folder, 300, ["<s>", "<pad>", "</s>", "<unk>"])
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    hf.PreTrainedTokenizerFast(tokenizer_object=made, **roles).save_pretrained(folder)
    torch.manual_seed(1)
    config = hf.SpeechT5Config(
        vocab_size=300, hidden_size=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_mel_bins=20,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, speech_decoder_prenet_units=32,
        speech_decoder_postnet_units=32, speaker_embedding_dim=16, pad_token_id=297, initializer_range=0.4,
    )  # fmt: skip
    model = hf.SpeechT5ForTextToSpeech(config)
    with torch.no_grad():
        model.speech_decoder_postnet.prob_out.bias.fill_(_LASTING)
    model.save_pretrained(folder)
    vocoder = hf.SpeechT5HifiGanConfig(model_in_dim=20, upsample_initial_channel=32, initializer_range=0.1)
    hf.SpeechT5HifiGan(vocoder).save_pretrained(folder / "vocoder")
    (folder / "speakers").mkdir(exist_ok=True)
    for number in range(speakers):
        np.save(folder / "speakers" / f"voice-{number}.npy", torch.randn(16).numpy())
    return folder


_CSM_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "<|begin_of_text|>[{{ message['role'] }}]{{ part['text'] }}<|end_of_text|>"
    "{% else %}<|AUDIO|><|audio_eos|>{% endif %}{% endfor %}{% endfor %}"
)


def csm(folder: Path) -> Path:
    """A tiny CSM with a tiny Mimi as its codec."""
    import torch

    hf = _transformers()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>"]
    made = tokenizer(folder, 300, special)
    roles = {"bos_token": special[0], "eos_token": special[1], "pad_token": special[1]}
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, **roles)
    extractor = hf.EncodecFeatureExtractor(sampling_rate=24_000)
    hf.CsmProcessor(extractor, tokens, chat_template=_CSM_TEMPLATE).save_pretrained(folder)
    torch.manual_seed(1)
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    books = {"num_codebooks": 4, "vocab_size": 67}
    codec = {
        "model_type": "mimi", "hidden_size": 32, "num_filters": 4, "intermediate_size": 64, "codebook_size": 128,
        "codebook_dim": 16, "num_quantizers": 4, "vector_quantization_hidden_dimension": 16, "head_dim": 16,
        "upsample_groups": 32, **layers,
    }  # fmt: skip
    config = hf.CsmConfig(
        **books, **layers, text_vocab_size=300, hidden_size=32, intermediate_size=64, codebook_pad_token_id=66,
        audio_token_id=298, audio_eos_token_id=299, bos_token_id=296, pad_token_id=297, codec_config=codec,
        depth_decoder_config={
            **books, **layers, "backbone_hidden_size": 32, "hidden_size": 32, "intermediate_size": 64,
            "max_position_embeddings": 5,
        },
    )  # fmt: skip
    model = hf.CsmForConditionalGeneration(config)
    model.generation_config = hf.GenerationConfig(do_sample=True, pad_token_id=66)
    model.depth_decoder.generation_config = hf.GenerationConfig(
        do_sample=True, min_new_tokens=3, max_new_tokens=3, pad_token_id=66
    )
    model.save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """A tiny wav2vec 2 with CTC over letters, of the kind that was trained without masks."""
    import torch

    hf = _transformers()
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
    """A tiny chat model with ears: Qwen3-ASR, which is told the language and hints, or GLM-ASR, which is told neither."""
    import torch

    hf = _transformers()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"]
    size = 1024
    made = tokenizer(folder, size, special)
    tokens = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>",  # noqa: S106
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
            hf.WhisperFeatureExtractor(feature_size=128), tokens, chat_template=_REQUEST, audio_token="<|audio_pad|>"  # noqa: S106
        ).save_pretrained(folder)  # fmt: skip
        config = hf.GlmAsrConfig(
            audio_config={**ears, "initializer_range": 0.2}, text_config=text, audio_token_id=audio
        )
        model = hf.GlmAsrForConditionalGeneration(config)
    with torch.no_grad():  # nothing but filler; a row of zeros is never the likeliest of a thousand
        model.get_output_embeddings().weight[:256] = 0
        model.get_output_embeddings().weight[-len(special) :] = 0
    model.save_pretrained(folder)
    return folder


def fastspeech2(folder: Path) -> Path:
    """A tiny FastSpeech2Conformer with its vocoder. Its tokenizer reads letters here, and phonemes of g2p-en otherwise."""
    import torch

    hf = _transformers()
    made = tokenizer(folder, 300, ["<blank>", "<unk>"])
    hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<blank>", unk_token="<unk>").save_pretrained(  # noqa: S106
        folder
    )
    torch.manual_seed(1)
    model = {
        "vocab_size": 300, "hidden_size": 32, "num_mel_bins": 20, "encoder_num_attention_heads": 2, "encoder_layers": 1,
        "encoder_linear_units": 64, "decoder_layers": 1, "decoder_num_attention_heads": 2, "decoder_linear_units": 64,
        "speech_decoder_postnet_units": 32, "pitch_predictor_channels": 32, "energy_predictor_channels": 32,
        "duration_predictor_channels": 32,
    }  # fmt: skip
    vocoder = {"model_in_dim": 20, "upsample_initial_channel": 32, "initializer_range": 0.1}
    config = hf.FastSpeech2ConformerWithHifiGanConfig(model_config=model, vocoder_config=vocoder)
    speaking = hf.FastSpeech2ConformerWithHifiGan(config)
    with torch.no_grad():
        speaking.model.duration_predictor.linear.bias.fill_(2.0)  # e² - 1 frames for each letter
    speaking.save_pretrained(folder)
    return folder


def bark(folder: Path) -> Path:
    """A tiny Bark with a tiny EnCodec, and two voices."""
    import numpy as np
    import torch

    hf = _transformers()
    made = tokenizer(folder, 300, ["[PAD]", "[UNK]"])
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")  # noqa: S106
    hf.BarkProcessor(tokens).save_pretrained(folder)
    prompts = {"semantic_prompt": (20,), "coarse_prompt": (2, 30), "fine_prompt": (8, 15)}
    voices = {name: {part: f"{name}_{part}.npy" for part in prompts} for name in ("v2/de_speaker_0", "v2/en_speaker_0")}
    (folder / "v2").mkdir()
    for paths in voices.values():
        for part, path in paths.items():
            np.save(folder / path, np.ones(prompts[part], np.int64))
    gone = {"v2/en_speaker_9": {part: f"gone_{part}.npy" for part in prompts}}
    (folder / "speaker_embeddings_path.json").write_text(json.dumps({"repo_or_path": "", **voices, **gone}))
    torch.manual_seed(1)
    size = {"hidden_size": 32, "num_layers": 1, "num_heads": 2}
    vocabularies = {"semantic": (129_600, 10_048), "coarse_acoustics": (12_096, 12_096), "fine_acoustics": (1056, 1056)}
    stages = {
        f"{stage}_config": {**size, "input_vocab_size": taken, "output_vocab_size": given}
        for stage, (taken, given) in vocabularies.items()
    }
    codec = {"model_type": "encodec", "hidden_size": 32, "num_filters": 4, "codebook_size": 1024, "codebook_dim": 32}
    hf.BarkModel(hf.BarkConfig(**stages, codec_config=codec)).save_pretrained(folder)
    from transformers.models.bark import generation_configuration_bark as bark

    parts = (bark.BarkSemanticGenerationConfig, bark.BarkCoarseGenerationConfig, bark.BarkFineGenerationConfig)
    library: Any = bark
    how = library.BarkGenerationConfig.from_sub_model_configs(*(part() for part in parts))
    (folder / "generation_config.json").write_text(json.dumps(how.to_dict(), default=str))  # it cannot save itself
    return folder


def tekken(folder: Path, words: int, *, streaming: bool = False) -> Path:
    """A tokenizer of mistral-common that knows audio: bytes, so many words of filler, and before them its special tokens."""
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


def voxtral(folder: Path) -> Path:
    """A tiny Voxtral, with its own kind of tokenizer."""
    import torch
    from transformers.tokenization_mistral_common import MistralCommonBackend

    hf = _transformers()
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
    with torch.no_grad():  # nothing but filler; a row of zeros is never the likeliest of so many
        model.get_output_embeddings().weight[:-400] = 0
    model.save_pretrained(folder)
    return folder


def voxtral_realtime(folder: Path, *, pauses: float = 60.0) -> Path:
    """A tiny Voxtral Realtime, which remembers no more than 4 s.

    `pauses`: how often it writes nothing: 60 for about every other time; 0 for never.
    """
    import torch
    from transformers.tokenization_mistral_common import MistralCommonBackend

    hf = _transformers()
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
    with torch.no_grad():  # nothing but filler and pauses, and by what is heard rather than by what was written
        for weight in model.model.multi_modal_projector.parameters():
            weight.normal_(0, 0.3)
        weights = model.get_output_embeddings().weight
        weights[:-400] = 0
        weights[tokens.convert_tokens_to_ids("[STREAMING_PAD]")] = pauses * weights[-400:].mean(0)
    model.save_pretrained(folder)
    return folder
