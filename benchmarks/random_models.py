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
