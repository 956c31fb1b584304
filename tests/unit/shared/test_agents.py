"""Agents: their files, what is wrong with a file, and which agent a client gets."""

import re
from pathlib import Path

import httpx
import pytest

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from services.edge.protocols.realtime.session import SessionObject
from services.edge.protocols.session_settings import with_settings
from shared.agents.agent import UnknownAgent
from shared.agents.file import Head
from shared.agents.folder import BadAgents, load_agents
from shared.protocol.prompt import prompt
from shared.protocol.session import (
    MAX_TEXT,
    ChatOptions,
    Example,
    ReplyOptions,
    SessionSettings,
    with_instructions,
)
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown

GOOD = 'name = "Ada"\ninstructions = "Be brief."\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def problems(settings: Settings) -> list[str]:
    with pytest.raises(BadAgents) as caught:
        load_agents(settings)
    return str(caught.value).splitlines()


def test_the_shipped_agents_are_good_and_the_assistant_is_the_default() -> None:
    agents = load_agents(Settings())
    assert len(agents.by_id) == 3
    assert agents.default.id == "assistant"
    assert agents.default.settings.greeting == ""  # a client that names no agent speaks first, as it always did
    for agent in agents.by_id.values():
        assert agent.description
        assert agent.id == "assistant" or agent.settings.greeting
        assert "instructions" not in agent.described()


def test_a_file_sets_any_setting_of_a_session(folder: Path) -> None:
    (folder / "ada.toml").write_text(
        f'{GOOD}description = "x"\nnumbers = ["+15550100"]\ngreeting = "Hello."\nlanguage = "de"\nvoice = "anna"\n'
        "speed = 1\nendpoint_ms = 700\ninterrupt_reply = false\n"
    )
    (agent,) = load_agents(Settings(agents=folder)).by_id.values()
    assert (agent.id, agent.name, agent.description, agent.numbers) == ("ada", "Ada", "x", ("+15550100",))
    assert agent.settings == SessionSettings(
        instructions="Be brief.", greeting="Hello.", language="de", voice="anna", endpoint_ms=700, interrupt_reply=False
    )


def test_a_file_sets_examples_and_options_of_the_chat_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ada.toml").write_text(
        f'{GOOD}examples = [["Hello.", "Hi! I am Ada."]]\nllm_model = "qwen3"\ntemperature = 0\nreply_tokens = 40\n'
    )
    settings = load_agents(Settings(agents=folder)).default.settings
    assert settings.examples == (Example("Hello.", "Hi! I am Ada."),)
    assert settings.chat == ChatOptions("qwen3", 0.0, 40)
    assert [message.text for message in prompt(settings, ReplyOptions(), (), 1, "Who?")] == [
        "Be brief.", "Hello.", "Hi! I am Ada.", "Who?",
    ]  # fmt: skip
    monkeypatch.setenv("PARLEY_INSTRUCTIONS", "Be kind.")
    monkeypatch.setenv("PARLEY_TEMPERATURE", "1")
    settings = load_agents(Settings(agents=folder)).default.settings
    assert (settings.instructions, settings.examples, settings.chat) == ("Be kind.", (), ChatOptions("qwen3", None, 40))


def test_examples_belong_to_the_instructions_of_the_agent() -> None:
    settings = SessionSettings(instructions="Be brief.", examples=(Example("Hello.", "Hi!"),))
    assert with_instructions(settings, "Be brief.") == settings
    assert with_instructions(settings, "Be kind.") == SessionSettings(instructions="Be kind.")
    (only, _) = prompt(settings, ReplyOptions(instructions="Be kind."), (), 1, "Who?")
    assert only.text == "Be kind."
    assert with_settings(settings, {"instructions": "Be kind."}, "config").examples == ()
    assert with_settings(settings, {"speed": 1.5}, "config").examples == settings.examples
    session = SessionObject(settings, "parley")
    assert session.settings().examples == settings.examples
    session.update({"instructions": "Be kind."})
    assert session.settings().examples == ()


def test_a_variable_overrides_every_agent_and_an_agent_overrides_the_profile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "ada.toml").write_text(f'{GOOD}greeting = "Hello."\nendpoint_ms = 140\n')
    monkeypatch.setenv("PARLEY_GREETING", "Welcome.")
    settings = load_agents(Settings(agents=folder)).default.settings
    assert (settings.greeting, settings.instructions) == ("Welcome.", "Be brief.")
    assert (settings.endpoint_ms, settings.pause_ms) == (140, 140)


def test_a_single_file_is_an_agent_and_the_default(folder: Path) -> None:
    (folder / "ada.toml").write_text(GOOD)
    (folder / "bad.toml").write_text("")
    assert load_agents(Settings(agents=folder / "ada.toml")).default.id == "ada"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["the key instructions is missing", "the key name is missing"]),
        (f"{GOOD}greetings = 1", [":3: there is no key 'greetings'; did you mean greeting?"]),
        (f"{GOOD}\n[voices]\nx = 1", [":4: there is no key 'voices'; did you mean voice?"]),
        (f"{GOOD}zzz = 1", [":3: there is no key 'zzz'; docs/agents.md lists all keys"]),
        ('name = "Ada"\ninstructions = " "', [":2: instructions = ' ': must be a string with words in it"]),
        ('name = ""\ninstructions = "x"', [":1: name = '': must be a string of 1 to 60 characters"]),
        (f"{GOOD}endpoint_ms = 99", [":3: endpoint_ms = 99: must be a whole number from 100 to 5000"]),
        (f'{GOOD}endpoint_ms = "500"', [":3: endpoint_ms = '500': must be a whole number from 100 to 5000"]),
        (f"{GOOD}detect_turns = 1", [":3: detect_turns = 1: must be true or false"]),
        (f'{GOOD}asr_model = "x"', [":3: asr_model is the same for all sessions: set PARLEY_ASR_MODEL instead"]),
        (f"{GOOD}temperature = 3", [":3: temperature = 3: must be a number from 0 to 2"]),
        (f'{GOOD}examples = [\n  ["a", "b"],\n  ["c"]\n]', [":3: examples = ['c']: must be an array of at most 20"]),
        (f'{GOOD}language = "the"', []),
        (f'{GOOD}language = "?"', [":3: language = '?': must be a language tag such as en or pt-BR"]),
        (f'{GOOD}numbers = ["0221", "x"]', [":3: numbers = '0221': must be an array of phone numbers"]),
        (
            f'{GOOD}# a comment\n\ngreeting = """\n{"x" * (MAX_TEXT + 1)}"""\n',
            [f":5: greeting = 'xxx{'x' * 20}", f"must be a string of at most {MAX_TEXT} characters"],
        ),
        (f'{GOOD}speed = 9\nname = "B"', [":4: not TOML: Cannot overwrite a value"]),
        (f'{GOOD}greeting = "x', [":3: not TOML: "]),
        (f'{GOOD}greeting = """x', [":3: not TOML: "]),
    ],
)
def test_what_is_wrong_with_a_file_has_its_line_and_the_reason(content: str, expected: list[str], folder: Path) -> None:
    path = folder / "ada.toml"
    path.write_text(content)
    if not expected:
        load_agents(Settings(agents=folder))
        return
    found = "\n".join(problems(Settings(agents=folder)))
    assert found.startswith(f"{path}:")
    for part in expected:
        assert part in found


def test_everything_that_is_wrong_in_all_files_is_said_at_once(folder: Path) -> None:
    (folder / "ada.toml").write_text('instructions = ""\nendpoint_ms = 1\ngreting = "Hello."\n')
    (folder / "Bob.toml").write_text(GOOD)
    (folder / "cleo.toml").write_bytes(b'name = "Cl\xe9o"\n')
    (folder / "dan.toml").mkdir()
    (folder / "eve.toml").write_text(f'{GOOD}numbers = ["+15550100"]')
    (folder / "fay.toml").write_text(f'{GOOD}numbers = ["+15550100"]')
    ids = [(Path(line.partition(":")[0]).stem, line.split(":")[1]) for line in problems(Settings(agents=folder))[:-1]]
    assert [(name, line) for name, line in ids if line.isdigit()] == [
        ("ada", "1"), ("ada", "2"), ("ada", "3"), ("cleo", "1"),
    ]  # fmt: skip
    text = "\n".join(problems(Settings(agents=folder)))
    for part in (
        "ada.toml: the key name is missing",
        "did you mean greeting?",
        "Bob.toml: the name of the file is the id of the agent: it must be 1 to 40 of a-z, 0-9, - and _",
        "cleo.toml:1: not UTF-8",
        "dan.toml: cannot be read: Is a directory",
        "the agents eve and fay both answer +15550100",
    ):
        assert part in text


def test_a_place_without_agents_is_refused(folder: Path) -> None:
    assert problems(Settings(agents=folder)) == [f"PARLEY_AGENTS={str(folder)!r}: this folder has no agent (*.toml)"]
    nowhere = folder / "nowhere"
    assert problems(Settings(agents=nowhere)) == [f"PARLEY_AGENTS={str(nowhere)!r}: there is no such folder or file"]


def test_the_default_is_chosen_or_obvious(folder: Path) -> None:
    for name in ("ada", "bob"):
        (folder / f"{name}.toml").write_text(GOOD)
    assert problems(Settings(agents=folder)) == [
        "PARLEY_AGENT is not set, and no agent is called assistant: choose the default from ada, bob"
    ]
    assert problems(Settings(agents=folder, agent="eve")) == [
        "PARLEY_AGENT='eve': there is no such agent; known are ada, bob"
    ]
    assert load_agents(Settings(agents=folder, agent="bob")).default.id == "bob"
    (folder / "assistant.toml").write_text(GOOD)
    assert load_agents(Settings(agents=folder)).default.id == "assistant"


def test_an_agent_is_found_by_its_id_or_its_number(folder: Path) -> None:
    (folder / "ada.toml").write_text(GOOD)
    (folder / "bob.toml").write_text(f'{GOOD}numbers = ["+15550100", "+15550101"]')
    agents = load_agents(Settings(agents=folder, agent="ada"))
    assert agents.named("bob").id == "bob"
    assert [agents.called(number).id for number in ("+15550101", "+15550109", "")] == ["bob", "ada", "ada"]
    with pytest.raises(UnknownAgent, match="there is no agent 'eve'; known are ada, bob"):
        agents.named("eve")


async def test_the_list_of_agents_has_no_instructions(folder: Path) -> None:
    (folder / "ada.toml").write_text(f'{GOOD}greeting = "Hello."\n')
    (folder / "bob.toml").write_text(f'{GOOD}description = "Someone else."\nvoice = "b"\nlanguage = "de"\n')
    gateway = Gateway(Settings(agents=folder, agent="bob"), Shutdown(1))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(gateway)), base_url="http://127.0.0.1:8000"
    ) as client:
        body = (await client.get("/v1/agents")).json()
    assert body == {
        "agents": [
            {"id": "ada", "name": "Ada", "description": "", "greeting": "Hello.", "language": "en", "voice": ""},
            {
                "id": "bob", "name": "Ada", "description": "Someone else.", "greeting": "", "language": "de",
                "voice": "b",
            },
        ],
        "default": "bob",
    }  # fmt: skip


def test_the_documentation_names_every_key_and_its_example_is_good(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()
    assert not [key for key in Head.model_fields if f"| `{key}` |" not in page]
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (folder / "hotel.toml").write_text(example)
    agent = load_agents(Settings(agents=folder)).default
    assert len(agent.settings.examples) == 2
    for shipped in load_agents(Settings()).by_id:
        assert f"| `{shipped}` |" in page
