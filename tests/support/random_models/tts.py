"""Voices with random weights."""

import json
import warnings
from pathlib import Path
from typing import Any

from tests.support.random_models.parts import Size, library, tokenizer

_PHONEMES = ';:,.!?—…"() “”ʣʥʦʨᵝAIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ\u0303'


_FRAMES_PER_PHONEME = -2.75
"""Bias of the duration's logits: 50 * sigmoid(-2.75) = 3 frames of 25 ms, a usual speaking rate."""


def kokoro(folder: Path, size: Size = "tiny") -> Path:
    """Kokoro-82M: its configuration, weights, and three voices."""
    tiny = size == "tiny"
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


def vits(folder: Path, *, speakers: int = 1, language: str | None = "eng", uroman: bool = False) -> Path:
    """A tiny VITS, as an MMS of one language, or with several speakers."""
    import torch

    hf = library()
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
        model.decoder.conv_post.weight.mul_(0.03)  # random weights are loud
    model.save_pretrained(folder)
    return folder


_LASTING = -3.0
"""Bias of the logits of SpeechT5's end: most texts take several steps, and not the maximum."""


def speecht5(folder: Path, *, speakers: int = 2) -> Path:
    """A tiny SpeechT5 with its vocoder and the x-vectors of `speakers` voices."""
    import numpy as np
    import torch

    hf = library()
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

    hf = library()
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


def fastspeech2(folder: Path) -> Path:
    """A tiny FastSpeech2Conformer with its vocoder. Its tokenizer reads letters here, and phonemes of g2p-en otherwise."""
    import torch

    hf = library()
    made = tokenizer(folder, 300, ["<blank>", "<unk>"])
    hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<blank>", unk_token="<unk>").save_pretrained(folder)
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

    hf = library()
    made = tokenizer(folder, 300, ["[PAD]", "[UNK]"])
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
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
    typed: Any = bark
    how = typed.BarkGenerationConfig.from_sub_model_configs(*(part() for part in parts))
    (folder / "generation_config.json").write_text(json.dumps(how.to_dict(), default=str))  # it cannot save itself
    return folder


def piper(folder: Path, name: str = "en_US-tiny-low", *, speakers: int = 1, rate_hz: int = 22_050) -> Path:
    """Add a voice of Piper to a folder: the network, exported as Piper exports it, and its configuration."""
    import torch
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    torch.manual_seed(1)
    symbols = len(DEFAULT_PHONEME_ID_MAP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses parts of torch that are deprecated
        from piper.train.vits.models import SynthesizerTrn

        network: Any = SynthesizerTrn(
            n_vocab=symbols, spec_channels=33, segment_size=32, inter_channels=16, hidden_channels=16, n_heads=2,
            filter_channels=32, n_layers=1, kernel_size=3, p_dropout=0.0, resblock="2", upsample_rates=(8, 8, 4),
            resblock_kernel_sizes=(3, 5, 7), resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)), n_speakers=speakers,
            upsample_initial_channel=32, upsample_kernel_sizes=(16, 16, 8), gin_channels=16 if speakers > 1 else 0,
        ).eval()  # fmt: skip
        network.dec.remove_weight_norm()

    def infer(symbols: Any, lengths: Any, scales: Any, sid: Any = None) -> Any:
        noise, length, rhythm = scales
        return network.infer(symbols, lengths, sid, noise, length, rhythm)[0].unsqueeze(1)

    network.forward = infer
    inputs = torch.randint(0, symbols, (1, 50)), torch.LongTensor([50]), torch.tensor([0.667, 1.0, 0.8])
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about constants
        torch.onnx.export(
            network, (*inputs, torch.LongTensor([0]) if speakers > 1 else None), folder / f"{name}.onnx",
            input_names=["input", "input_lengths", "scales", "sid"], output_names=["output"], opset_version=15,
            dynamic_axes={"input": {1: "phonemes"}, "output": {2: "time"}}, dynamo=False,
        )  # fmt: skip
    language = name.partition("-")[0]
    config = {
        "audio": {"sample_rate": rate_hz},
        "espeak": {"voice": {"en_US": "en-us"}.get(language, language[:2])},
        "language": {"code": language},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "num_symbols": symbols,
        "num_speakers": speakers,
        "speaker_id_map": {f"p{number}": number for number in range(speakers)} if speakers > 1 else {},
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(config))
    return folder
