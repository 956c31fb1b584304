"""What a start prepares: it downloads models, and chooses the profile classic where the profile light cannot run."""

from pathlib import Path

import pytest

from deploy.local import prepare
from deploy.local.supervisor import StartFailed
from deploy.models.sources import Progress
from shared.settings import Settings

WHISPER, FOREIGN = "whisper-tiny.en", "someone/something"


@pytest.fixture
def said() -> list[str]:
    return []


def test_nothing_changes_where_every_model_is_here(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: {})
    settings = Settings(profile="light")
    assert prepare.prepare(settings, said.append) is settings
    assert said == []


def test_without_a_terminal_each_download_is_announced_once(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def ensure(settings: Settings, progress: Progress) -> dict[str, str]:
        for name, done in (("a", 0), ("a", 40_000_000), ("b", 0)):
            progress(name, done, 78_400_000)
        return {}

    monkeypatch.setattr(prepare, "ensure", ensure)
    prepare.prepare(Settings(profile="light"), said.append)
    assert said == ["downloading a, 78 MB", "downloading b, 78 MB"]


def test_without_a_source_of_its_models_light_becomes_classic(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    reason = "whisper-tiny.en: no source answers.\nTried: the hub, the package index"
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: {WHISPER: reason})
    started = prepare.prepare(Settings(profile="light"), said.append)
    assert (started.profile, started.asr_engine, started.tts_engine) == ("classic", "sphinx", "espeak")
    assert started.endpoint_engine == "fixed"
    (line,) = said
    assert "whisper-tiny.en: no source answers." in line
    assert "Started instead: classic" in line
    assert "make run" in line
    assert "\n" not in line


def test_what_the_user_chose_besides_the_profile_stays(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: {WHISPER: "gone"})
    monkeypatch.setenv("PARLEY_LLM_URL", "http://127.0.0.1:11434/v1")
    monkeypatch.setenv("PARLEY_ENDPOINT_MS", "700")
    started = prepare.prepare(Settings(profile="light"), said.append)
    assert (started.llm_engine, started.session.endpoint_ms) == ("openai", 700)


def test_without_its_packages_light_becomes_classic_and_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(prepare, "find_spec", lambda name: None)
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: pytest.fail("downloaded"))
    assert prepare.prepare(Settings(profile="light"), said.append).profile == "classic"
    assert "make install" in said[0]


def test_a_missing_model_that_the_user_named_ends_the_start(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: {FOREIGN: f"{FOREIGN}: not on the hub"})
    with pytest.raises(StartFailed, match="someone/something: not on the hub"):
        prepare.prepare(Settings(profile="light", asr_model=FOREIGN), said.append)
    assert said == []


def test_another_profile_does_not_fall_back(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(prepare, "ensure", lambda settings, progress: {"a/b": "a/b: no", "c/d": "c/d: no"})
    with pytest.raises(StartFailed, match=r"a/b: no\nc/d: no"):
        prepare.prepare(Settings(profile="neural", device="cpu"), said.append)


def test_an_engine_that_does_not_exist_ends_the_start(said: list[str], tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="PARLEY_LLM_ENGINE='gpt4': known are"):
        prepare.prepare(Settings(profile="classic", llm_engine="gpt4", models_dir=tmp_path), said.append)
