"""A chat model with random weights."""

from pathlib import Path

from tests.support.random_models.parts import Size, library, tokenizer

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


def chat(folder: Path, size: Size = "tiny") -> Path:
    """Qwen3: full is 1.7B (28 layers of 2048), laptop is 0.6B (28 of 1024), in the 16 bits in which they are published.

    Where it is tiny it says nothing but whole words of filler and never ends by itself; at full size the tokens that
    would be otherwise are so few that they do not show.
    """
    import torch

    hf = library()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
    tiny, width = size == "tiny", {"tiny": 32, "laptop": 1024, "full": 2048}[size]
    known = 1024 if tiny else 151_936
    made = tokenizer(folder, known, special)
    letters = 256  # the bytes: the first tokens
    tokens = hf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokens.chat_template = _CHATML
    tokens.save_pretrained(folder)
    end, pad = tokens.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = hf.Qwen3Config(
        vocab_size=known,
        hidden_size=width,
        intermediate_size=64 if tiny else 3 * width,
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
