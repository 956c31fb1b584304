"""Print agents, and what the environment overrides in them."""

import json

from rich.console import Console
from rich.table import Table

from shared.agents.agent import Agents
from shared.protocol.session import SESSION_TABLE
from shared.settings import Settings


def show_agents(agents: Agents, settings: Settings, *, as_json: bool, checked: bool) -> None:
    """Print the agents, as JSON in the form of `GET /v1/agents`. `checked`: say that their files are good."""
    if as_json:
        listed = [agent.described() | {"file": str(agent.path)} for agent in agents.by_id.values()]
        print(json.dumps({"agents": listed, "default": agents.default.id}, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("agent", "name", "what it is", "language", "voice", "file"):
        table.add_column(heading, overflow="fold")
    for agent in agents.by_id.values():
        mark, chosen = "*" * (agent is agents.default), agent.settings
        table.add_row(
            agent.id + mark, agent.name, agent.description or "–", chosen.language, chosen.voice or "–", str(agent.path)
        )
    Console(highlight=False, markup=False).print(table)
    if checked:
        print(f"{len(agents.by_id)} agents, no faults")
    for variable in sorted(SESSION_TABLE[name].variable for name in settings.overrides & SESSION_TABLE.keys()):
        print(f"{variable} is set: it overrides every agent")
