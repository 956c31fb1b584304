"""Read the agents that the settings name."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.agents.agent import Agent, Agents
from shared.agents.file import BadFile, Problem, line_of, parse_agent
from shared.protocol.session import SESSION_TABLE, ChatOptions, Example, Phrase, SessionSettings, with_fitting_pause
from shared.settings import TABLE, BadSettings, Settings

SHIPPED = Path(__file__).parent / "shipped"
"""The agents that come with Parley. In a checkout it is a link to the folder `agents`; in a wheel, a folder."""
DEFAULT = "assistant"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class BadAgents(BadSettings):
    """Files of agents that cannot be used; the message has a line for everything that is wrong."""


def load_agents(settings: Settings) -> Agents:
    """The agents of PARLEY_AGENTS, each with the settings of its sessions.

    Raises:
        BadAgents: naming everything that is wrong in all files.
    """
    agents, wrong = [], []
    for path in _files(settings.agents):
        try:
            agents.append(_agent(path, settings))
        except BadFile as error:
            wrong += [_located(path, problem) for problem in error.problems]
    wrong += _doubled_numbers(agents)
    if wrong:
        raise BadAgents("\n".join(wrong))
    by_id = {agent.id: agent for agent in agents}
    return Agents(by_id, _default(by_id, settings))


def _files(path: Path | None) -> list[Path]:
    place = SHIPPED.resolve() if path is None else path.expanduser()
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise BadAgents(f"PARLEY_AGENTS={str(place)!r}: there is no such folder or file")
    if not (files := sorted(place.glob("*.toml"))):
        raise BadAgents(f"PARLEY_AGENTS={str(place)!r}: this folder has no agent (*.toml)")
    return files


def _agent(path: Path, settings: Settings) -> Agent:
    if not _ID.fullmatch(path.stem) or path.suffix != ".toml":
        allowed = "1 to 40 of a-z, 0-9, - and _, then .toml"
        raise BadFile([Problem(0, f"the name of the file is the id of the agent: it must be {allowed}")])
    try:
        file = parse_agent(path.read_bytes())
    except OSError as error:
        raise BadFile([Problem(0, f"cannot be read: {error.strerror}")]) from None
    return Agent(path.stem, file.name, file.description, session_settings(settings, file), path, tuple(file.numbers))


def session_settings(settings: Settings, file: Any) -> SessionSettings:
    """The settings of a session with the agent of this `AgentFile`: environment before agent before profile."""
    chosen = {name: getattr(file, name) for name in file.model_fields_set - settings.overrides}
    base = {name: value for name, value in chosen.items() if name in SESSION_TABLE}
    chat = ChatOptions(chosen.get("llm_model", ""), chosen.get("temperature"), chosen.get("reply_tokens"))
    examples = tuple(Example(*pair) for pair in chosen.get("examples", ()) if "instructions" in chosen)
    texts = tuple(Phrase(*pair) for pair in chosen.get("failure_texts", {}).items())
    return with_fitting_pause(replace(settings.session, **base, examples=examples, chat=chat, failure_texts=texts))


def _located(path: Path, problem: Problem) -> str:
    return f"{path}:{problem.line}: {problem.text}" if problem.line else f"{path}: {problem.text}"


def where(agent: Agent, key: str, settings: Settings) -> str:
    """What sets this setting of an agent, for the start of a message: a variable, or a line of its file."""
    if key in settings.overrides or agent.path is None:
        return TABLE[key].variable
    return _located(agent.path, Problem(line_of(key, agent.path.read_text()), ""))[:-2]


def _doubled_numbers(agents: Iterable[Agent]) -> Iterator[str]:
    answered: dict[str, str] = {}
    for agent in agents:
        for number in agent.numbers:
            other = answered.setdefault(number, agent.id)
            if other != agent.id:
                yield f"the agents {other} and {agent.id} both answer {number}"


def _default(agents: dict[str, Agent], settings: Settings) -> Agent:
    known = ", ".join(agents)
    if settings.agent:
        if settings.agent not in agents:
            raise BadAgents(f"PARLEY_AGENT={settings.agent!r}: there is no such agent; known are {known}")
        return agents[settings.agent]
    if DEFAULT in agents or len(agents) == 1:
        return agents.get(DEFAULT) or next(iter(agents.values()))
    raise BadAgents(f"PARLEY_AGENT is not set, and no agent is called {DEFAULT}: choose the default from {known}")
