"""The table of settings, and the settings that a process gets from its environment."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.settings_docs import PAGE, main, settings_page
from shared.protocol.session import SESSION_TABLE, SessionSettings
from shared.settings import PREFIX, PROFILES, TABLE, BadSettings, Settings, load_settings
from shared.settings_table import Row

pytestmark = pytest.mark.usefixtures("no_settings")

ROOT = Path(__file__).parents[3]


def ends(row: Row) -> tuple[list[str], list[str]]:
    """Values at the ends of the range, as text: allowed ones, and the nearest ones outside."""
    setting, step = row.setting, 1 if row.type == "integer" else 0.001
    if row.type in ("integer", "number"):
        allowed = [end for end in (setting.low, setting.high) if end is not None]
        outside = [end for end in (setting.low, setting.high and setting.high + step) if end is not None]
        assert setting.low is not None
        return [f"{end:.15g}" for end in allowed], [
            f"{setting.low - step:.15g}",
            *(f"{end:.15g}" for end in outside[1:]),
        ]
    if setting.longest:
        letters = "en" if setting.pattern else "x"
        text = "-".join(["en", *["abcdefg"] * 4]) if setting.pattern else letters * setting.longest
        return [text[: setting.longest]], ["x" * (setting.longest + 1)]
    if row.choices:
        return list(row.choices), ["", f"{row.choices[0]}x"]
    return (["true", "false"], ["2"]) if row.type == "boolean" else ([], [])


def value_of(settings: Settings, name: str) -> Any:
    return getattr(settings.session if name in SESSION_TABLE else settings, name)


def test_a_setting_has_one_name_a_text_and_a_default_that_is_allowed() -> None:
    assert set(TABLE) == set(Settings.model_fields) - {"session", "overrides"} | set(SESSION_TABLE)
    assert set(SESSION_TABLE) == set(SessionSettings.__dataclass_fields__) - {
        "tools",
        "tool_choice",
        "examples",
        "chat",
        "failure_texts",
    }
    for row in TABLE.values():
        assert row.setting.text
        assert not row.setting.text.endswith(".")
        assert row.check(row.default) == row.default, row.name
        assert not (row.type in ("integer", "number") and row.setting.low is None), f"{row.name} has no range"
    for engines in PROFILES.values():
        assert set(engines) < set(TABLE)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_the_environment_takes_a_range_to_its_ends(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, outside = ends(row)
    if row.name == "pause_ms":  # it is shortened to the endpoint
        monkeypatch.setenv("PARLEY_ENDPOINT_MS", "5000")
    for text in allowed:
        monkeypatch.setenv(row.variable, text)
        assert value_of(Settings(), row.name) == row.parse(text)
    for text in outside:
        monkeypatch.setenv(row.variable, text)
        load_settings.cache_clear()
        with pytest.raises(BadSettings) as caught:
            load_settings()
        assert str(caught.value) == f"{row.variable}={text!r}: must be {row.allowed}"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "1e400"])
def test_what_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARLEY_TEMPERATURE", "PARLEY_SPEED", "PARLEY_PORT"):
        monkeypatch.setenv(name, text)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    named = {line.partition("=")[0] for line in str(caught.value).splitlines()}
    assert named == {"PARLEY_TEMPERATURE", "PARLEY_SPEED", "PARLEY_PORT"}


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("PARLEY_ENDPONT_MS", "did you mean PARLEY_ENDPOINT_MS?"),
        ("PARLEY_LLM_KY", "did you mean PARLEY_LLM_KEY?"),
        ("PARLEY_REDISURL", "did you mean PARLEY_REDIS_URL?"),
        ("PARLEY_LOGLEVEL", "did you mean PARLEY_LOG_LEVEL?"),
        ("PARLEY_SHARDS", "unset it."),
        ("PARLEY_SESSION", "unset it."),
        ("PARLEY_TOOLS", "unset it."),
        ("PARLEY_", "unset it."),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(
    variable: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "geheim")
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert str(caught.value) == f"{variable}: there is no such setting; {hint} docs/settings.md lists all settings."


def test_everything_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PROT", "8000")
    monkeypatch.setenv("PARLEY_ENDPOINT_MS", "99")
    monkeypatch.setenv("PARLEY_LEASE_MS", "soon")
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert sorted(re.findall(r"^PARLEY_\w+", str(caught.value), re.MULTILINE)) == [
        "PARLEY_ENDPOINT_MS",
        "PARLEY_LEASE_MS",
        "PARLEY_PROT",
    ]


def test_variables_of_the_tests_are_ignored_and_letters_may_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TEST_CLIPS", "/clips")
    monkeypatch.setenv("parley_port", "8123")
    assert load_settings().port == 8123


def test_a_misspelt_variable_of_the_tests_is_refused_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TEST_CLIP", "/clips")
    with pytest.raises(BadSettings, match="PARLEY_TEST_CLIP: there is no such setting"):
        load_settings()


def test_the_settings_of_a_session_are_arguments_and_variables_like_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ENDPOINT_MS", "120")
    monkeypatch.setenv("PARLEY_LANGUAGE", "de")
    assert Settings(profile="classic").session == SessionSettings(endpoint_ms=120, pause_ms=120, language="de")
    settings = Settings(language="fr", port=8123)
    assert (settings.session.language, settings.session.endpoint_ms, settings.port) == ("fr", 120, 8123)
    assert Settings.model_validate({"language": "it"}).session.language == "it"


def test_secrets_are_masked_and_not_told_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [name for name, row in TABLE.items() if row.type == "secret"]
    assert {"redis_url", "llm_key", "tts_key", "twilio_auth_token"} < set(secrets)
    shown = Settings(**dict.fromkeys(secrets, "geheim")).flat()
    assert {shown[name] for name in secrets} == {"**********"}
    assert list(shown) == list(TABLE)


def test_the_reference_is_up_to_date(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAGE.read_text() == settings_page(), "run: python -m deploy.settings_docs"
    assert main(["--check"]) == 0
    monkeypatch.setattr("deploy.settings_docs.PAGE", PAGE.with_name("another.md"))
    assert main(["--check"]) == 1
    assert "python -m deploy.settings_docs" in capsys.readouterr().err
    assert str(Path.home()) not in settings_page()


def test_every_variable_that_the_repository_names_is_a_setting() -> None:
    """A document or a compose file with an old name would stop the start of who follows it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [
        ROOT / name for name in listed.split("\0") if name and not name.startswith(("tests/", "CHANGELOG", "DESIGN"))
    ]
    known = {row.variable for row in TABLE.values()}
    for file in files:
        if file.suffix in {".md", ".yaml", ".yml", ".py", ".sh"} or file.name in {"Makefile", "Dockerfile"}:
            named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b(?!_)", file.read_text()))
            unknown = {name for name in named - known if not name.startswith("PARLEY_TEST")}
            assert not unknown, file.relative_to(ROOT)


def test_a_profile_sets_more_than_engines_and_each_setting_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    light = Settings()
    assert (light.profile, light.asr_engine, light.endpoint_engine) == ("light", "faster-whisper", "fused")
    assert Settings(session=SessionSettings(language="fr")).session == SessionSettings(language="fr")
    monkeypatch.setenv("PARLEY_INSTRUCTIONS", "")
    monkeypatch.setenv("PARLEY_TEMPERATURE", "0.9")
    monkeypatch.setenv("PARLEY_ASR_ENGINE", "")
    own = Settings(endpoint_engine="fixed")
    assert (own.session.instructions, own.temperature, own.endpoint_engine) == ("", 0.9, "fixed")
    assert own.asr_engine == "faster-whisper"


@pytest.mark.parametrize("stage", ["llm", "tts"])
def test_the_url_of_an_endpoint_chooses_its_engine(stage: str) -> None:
    url = {f"{stage}_url": "http://127.0.0.1:11434/v1"}
    assert getattr(Settings(**url), f"{stage}_engine") == "openai"
    assert getattr(Settings(**url, **{f"{stage}_engine": "scripted"}), f"{stage}_engine") == "scripted"
