"""Chat models that hear, and one that speaks, with random weights; all tiny."""

from pathlib import Path
from typing import Any

from tests.support.random_models.parts import library, tokenizer

SPEAKERS = ("Chelsie", "Ethan")
_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>",
    "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>", "<tts_bos>", "<tts_eos>", "<tts_pad>",
]  # fmt: skip


def _tokens(folder: Path, hf: Any) -> tuple[Any, dict[str, int]]:
    made = tokenizer(folder, 512, _SPECIAL)
    tokens = hf.Qwen2TokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None, unk_token=None,
        extra_special_tokens={
            "image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
        },
    )  # fmt: skip
    return tokens, {token: tokens.convert_tokens_to_ids(token) for token in _SPECIAL}


def _mute(model: Any) -> None:
    """Let the model write only filler: a row of zeros is never the likeliest of hundreds."""
    import torch

    with torch.no_grad():
        model.get_output_embeddings().weight[:256] = 0
        model.get_output_embeddings().weight[-len(_SPECIAL) :] = 0


def qwen2_audio(folder: Path) -> Path:
    """A tiny Qwen2-Audio: it hears, and writes."""
    import torch

    hf = library()
    tokens, places = _tokens(folder, hf)
    hf.Qwen2AudioProcessor(hf.WhisperFeatureExtractor(feature_size=128), tokens).save_pretrained(folder)
    config = hf.Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 128, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64,
            "d_model": 32, "max_source_positions": 1500,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "initializer_range": 0.6,
        },
        audio_token_index=places["<|AUDIO|>"],
    )  # fmt: skip
    torch.manual_seed(1)
    model = hf.Qwen2AudioForConditionalGeneration(config)
    model.generation_config.eos_token_id = places["<|im_end|>"]
    model.generation_config.pad_token_id = places["<|endoftext|>"]
    _mute(model)
    model.save_pretrained(folder)
    return folder


def qwen_omni(folder: Path) -> Path:
    """A tiny Qwen2.5-Omni: it hears, writes, and speaks with two voices."""
    import torch

    hf = library()
    tokens, places = _tokens(folder, hf)
    # Its own processor needs torchvision, for images; for audio this one does the same.
    hf.Qwen2AudioProcessor(hf.WhisperFeatureExtractor(feature_size=128), tokens).save_pretrained(folder)
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    text = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "rope_parameters": rope, "max_position_embeddings": 4096,
    }  # fmt: skip
    heard = {
        "audio_token_index": places["<|AUDIO|>"], "image_token_index": places["<|IMAGE|>"],
        "video_token_index": places["<|VIDEO|>"], "audio_start_token_id": places["<|audio_bos|>"],
        "audio_end_token_id": places["<|audio_eos|>"], "vision_start_token_id": places["<|vision_bos|>"],
        "vision_end_token_id": places["<|vision_eos|>"],
    }  # fmt: skip
    config = hf.Qwen2_5OmniConfig(
        thinker_config={
            **heard,
            "text_config": {**text, "vocab_size": 512, "initializer_range": 0.6, "tie_word_embeddings": False},
            "audio_config": {
                "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "d_model": 32, "output_dim": 32,
            },
            "vision_config": {
                "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
                "fullatt_block_indexes": [0],
            },
        },
        talker_config={
            **heard, **text, "embedding_size": 32, "head_dim": 16, "initializer_range": 0.2,
            "tts_text_start_token_id": places["<tts_bos>"], "tts_text_end_token_id": places["<tts_eos>"],
            "tts_text_pad_token_id": places["<tts_pad>"],
        },
        token2wav_config={
            "dit_config": {
                "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16, "emb_dim": 16,
                "look_ahead_layers": [0], "look_backward_layers": [0], "enc_emb_dim": 16, "enc_dim": 16,
                "enc_channels": [16, 16, 16, 16, 48], "enc_attention_channels": 8, "enc_se_channels": 8,
                "enc_res2net_scale": 2,
            },
            "bigvgan_config": {"upsample_initial_channel": 128, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 1, 1]]},
        },
    )  # fmt: skip
    torch.manual_seed(1)
    model = hf.Qwen2_5OmniForConditionalGeneration(config)
    model.thinker.generation_config.eos_token_id = places["<|im_end|>"]
    _mute(model.thinker)
    with torch.no_grad():
        model.talker.codec_head.weight[8192:] = 0  # only codes of sound, and no end
        for weight in model.token2wav.code2wav_bigvgan_model.parameters():
            weight.mul_(20)  # else the sound is below the last bit
    model.save_pretrained(folder)
    voices = {
        name: {"cond": torch.randn(1, 16), "ref_mel": torch.randn(1, 30, 80), "bos_token": places["<tts_bos>"]}
        for name in SPEAKERS
    }
    torch.save(voices, folder / "spk_dict.pt")
    return folder
