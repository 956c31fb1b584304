"""What an agent is, and which one a client gets. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.protocol.session import SessionSettings


class UnknownAgent(ValueError):
    """A client asks for an agent that does not exist; the message names those that do."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Who speaks in a session, and how."""

    id: str
    """The name of its file, without `.toml`."""
    name: str
    description: str
    settings: SessionSettings
    """The settings with which its sessions begin."""
    path: Path | None = None
    """Its file."""
    numbers: tuple[str, ...] = ()
    """The phone numbers that it answers, in E.164."""

    def described(self) -> dict[str, Any]:
        """The agent as JSON, without its instructions: they may be private."""
        settings = self.settings
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "greeting": settings.greeting,
            "language": settings.language,
            "voice": settings.voice,
        }


@dataclass(frozen=True, slots=True)
class Agents:
    """All agents by id, and the default for clients that name no agent."""

    by_id: Mapping[str, Agent]
    default: Agent

    def named(self, id_: str) -> Agent:
        """The agent with this id.

        Raises:
            UnknownAgent: no agent has this id.
        """
        if id_ not in self.by_id:
            raise UnknownAgent(f"there is no agent {id_[:40]!r}; known are {', '.join(self.by_id)}")
        return self.by_id[id_]

    def called(self, number: str) -> Agent:
        """The agent that answers this phone number; the default if none does."""
        return next((agent for agent in self.by_id.values() if number in agent.numbers), self.default)
