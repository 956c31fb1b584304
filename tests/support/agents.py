"""Agents for tests."""

from shared.agents.agent import Agent, Agents
from shared.protocol.session import SessionSettings


def one_agent(settings: SessionSettings) -> Agents:
    """A single agent, whose sessions begin with these settings."""
    agent = Agent("assistant", "Parley", "", settings)
    return Agents({agent.id: agent}, agent)
