"""What the workers cannot do of a session's settings."""

from dataclasses import replace

import pytest

from services.edge.gateway.abilities import Abilities
from shared.protocol.session import ChatOptions, SessionSettings

ABLE = Abilities(voices=("anna", "bert"), speaks=frozenset({"de", "en"}), understands=frozenset({"en", "fr", "de"}))


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({}, []),
        ({"voice": "anna+f3", "language": "de-AT"}, []),
        ({"voice": "caruso"}, ["unknown_voice"]),
        ({"language": "fr"}, ["unknown_language"]),
        ({"language": "fr", "voice": "anna"}, ["unknown_language"]),
        ({"language": "it"}, ["unknown_language", "unknown_language"]),
        ({"language": "it", "voice": "anna"}, ["unknown_language", "unknown_language"]),
        ({"language": "auto"}, []),
        ({"language": "deu"}, []),
        ({"language": "iw"}, []),
        ({"route": "omni", "voice": "x"}, ["unknown_voice", "cannot_hear"]),
    ],
)
def test_what_is_missing_has_a_code_and_names_what_there_is(settings: dict[str, str], codes: list[str]) -> None:
    missing = list(ABLE.missing(SessionSettings(**settings)))  # type: ignore[arg-type]
    assert [unable.code for unable in missing] == codes
    for unable in missing:
        assert settings[unable.key] in unable.message
        assert len(unable.reason.encode()) <= 123


def test_options_of_the_chat_model_need_an_engine_that_takes_them() -> None:
    chat = ChatOptions("qwen3", 0.5, 40)
    missing = list(ABLE.missing(SessionSettings(chat=chat)))
    assert [(unable.key, unable.code) for unable in missing] == [
        ("llm_model", "cannot_choose"), ("temperature", "cannot_choose"),
    ]  # fmt: skip
    assert missing[0].message == "llm_model: the chat engine has one for all sessions, PARLEY_LLM_MODEL"
    able = replace(ABLE, options=frozenset({"model", "temperature"}))
    assert not list(able.missing(SessionSettings(chat=chat)))


def test_workers_that_do_not_say_what_they_can_are_asked_for_anything() -> None:
    assert not list(Abilities(hears=True).missing(SessionSettings(voice="x", language="tlh", route="omni")))
