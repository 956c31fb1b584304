"""Which model of an endpoint's list is chosen."""

import pytest

from shared.engines.endpoint_models import Entry, chats, choose_model, recognises
from shared.engines.registry import UnknownEngine

URL = "http://here/v1"


@pytest.mark.parametrize(
    "name",
    ["qwen3:4b", "llama3.2:latest", "meta-llama/Llama-3.1-8B-Instruct", "gpt-4o-mini", "models/gemini-2.0-flash",
     "Voxtral-Mini-3B-2507", "/models/SmolLM2-135M-Instruct-Q8_0.gguf", "gemma-3n-e4b"],
)  # fmt: skip
def test_chat_models(name: str) -> None:
    assert chats({"id": name})


@pytest.mark.parametrize(
    "name",
    ["nomic-embed-text:latest", "text-embedding-3-small", "BAAI/bge-m3", "intfloat/e5-large", "all-minilm", "whisper-1",
     "gpt-4o-transcribe", "tts-1", "speaches-ai/Kokoro-82M", "dall-e-3", "omni-moderation-latest", "jina-reranker-v2"],
)  # fmt: skip
def test_other_models(name: str) -> None:
    assert not chats({"id": name})


@pytest.mark.parametrize(
    ("entry", "does"),
    [
        ({"id": "Systran/faster-whisper-small"}, True),
        ({"id": "gpt-4o-mini-transcribe"}, True),
        ({"id": "nvidia/parakeet-tdt-0.6b-v2"}, True),
        ({"id": "mistralai/Voxtral-Mini-3B-2507"}, True),
        ({"id": "any", "task": "automatic-speech-recognition"}, True),
        ({"id": "whisper-like", "task": "text-to-speech"}, False),
        ({"id": "qwen3:4b"}, False),
    ],
)
def test_recognisers(entry: Entry, does: bool) -> None:
    assert recognises(entry) is does


def test_the_wanted_model_or_the_first_that_suits() -> None:
    listed = [{"id": "bge-m3"}, {"id": "a:latest"}, {"id": "models/b"}]
    assert choose_model("", listed, chats, "MODEL", URL) == "a:latest"
    for wanted in ("a", "b", "bge-m3", "models/b"):
        assert choose_model(wanted, listed, chats, "MODEL", URL) == wanted
    assert choose_model("any", None, chats, "MODEL", URL) == "any"
    assert choose_model("any", [], chats, "MODEL", URL) == "any"
    with pytest.raises(UnknownEngine, match=f"^no model 'c': {URL} has bge-m3, a:latest, models/b. Set MODEL to one"):
        choose_model("c", listed, chats, "MODEL", URL)
    for none in (None, [], [{"id": "bge-m3"}]):
        with pytest.raises(UnknownEngine, match=f"^set MODEL: {URL} has "):
            choose_model("", none, chats, "MODEL", URL)
