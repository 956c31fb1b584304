"""How endpoints refuse a prompt that is too long."""

from typing import Any

import pytest

from services.llm.context.refusal import TooLong, read_refusal

REFUSALS: list[tuple[int, str, dict[str, Any], TooLong]] = [
    (400, ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9013 tokens. Please reduce "
     "the length of the messages."), {"code": "context_length_exceeded"}, TooLong(8192, 9013)),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again.",
     {"code": "context_length_exceeded"}, TooLong()),
    (400, ("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4600 in the messages, 400 "
     "in the completion). Please reduce the length of the messages or completion."), {"code": 400}, TooLong(4096, 4600)),
    (400, ("This model's maximum context length is 4,096 tokens. However, you requested 400 output tokens and your prompt "
     "contains at least 3697 input tokens, for a total of at least 4097 tokens."), {}, TooLong(4096, 3697)),
    (400, ("'max_tokens' or 'max_completion_tokens' is too large: 400. This model's maximum context length is 4096 tokens and "
     "your request has 3900 input tokens (400 > 4096 - 3900)."), {}, TooLong(4096, 3900)),
    (400, "max_tokens must be at least 1, got -186.", {"type": "BadRequestError"}, TooLong()),
    (400, "The prompt (total length 25938) is too long to fit into the model (context length 4096).", {}, TooLong(4096, 25938)),
    (400, ("Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5000 "
     "tokens: 4600 tokens from the input messages and 400 tokens for the completion."), {}, TooLong(4096, 4600)),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens).", {}, TooLong(4096, 5000)),
    (400, "the request exceeds the available context size. try increasing the context size or enable context shift",
     {"type": "exceed_context_size_error", "n_prompt_tokens": 1407, "n_ctx": 256}, TooLong(256, 1407)),
    (500, "request (5120 tokens) exceeds the available context size (4096 tokens), try increasing it", {}, TooLong(4096, 5120)),
    (0, ("Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of "
     "only 4096 tokens, which is not enough."), {}, TooLong(4096, 5000)),
    (400, ("The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: "
     "4096)."), {}, TooLong(4096, 13055)),
    (400, "prompt too long; exceeded max context length by 1234 tokens", {"type": "api_error"}, TooLong()),
    (400, "the input length exceeds the context length", {}, TooLong()),
    (422, ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 400 "
     "`max_new_tokens`"), {}, TooLong(4096, 5000)),
    (400, "prompt is too long: 208310 tokens > 200000 maximum", {"type": "invalid_request_error"}, TooLong(200000, 208310)),
    (400, "The input token count (1,234,567) exceeds the maximum number of tokens allowed (1,048,576).", {},
     TooLong(1048576, 1234567)),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", {}, TooLong(131072, 537812)),
    (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", {},
     TooLong(32768, 40000)),
    (429, ("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7100, please reduce your message "
     "size and try again."), {"code": "rate_limit_exceeded"}, TooLong(6000)),
    (413, "Payload Too Large", {}, TooLong()),
    (400, "Requested tokens (2285) exceed context window of 2048", {}, TooLong(2048)),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "details", "said"), REFUSALS)
def test_a_refusal_for_length(status: int, message: str, details: dict[str, Any], said: TooLong) -> None:
    assert read_refusal(status, f"{status} {message}"[:300], details) == said


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Extra inputs are not permitted"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "temperature must be at most 2"),
        (401, "Incorrect API key provided"),
        (404, "The model `x` does not exist"),
        (429, "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."),
        (500, "it went wrong"),
        (503, "Loading model"),
        (0, "no answer in time"),
    ],
)
def test_other_failures(status: int, message: str) -> None:
    assert read_refusal(status, f"{status} {message}", {}) is None
