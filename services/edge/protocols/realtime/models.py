"""Which agent a Realtime client means by the name of its model. Pure."""

from shared.agents.agent import Agent, Agents, UnknownAgent

DEFAULT_MODEL = "parley"
OPENAI = "gpt-"
"""Beginning of the names of OpenAI's models. Programs that were written for them get the default agent."""


def agent_of(model: str, agents: Agents) -> Agent:
    """The agent with this id; the default one for `parley`, and for a model of OpenAI.

    Raises:
        UnknownAgent: no agent has this name.
    """
    if model in agents.by_id:
        return agents.by_id[model]
    if model == DEFAULT_MODEL or model.startswith(OPENAI):
        return agents.default
    known = ", ".join((DEFAULT_MODEL, *agents.by_id))
    raise UnknownAgent(f"The model {model[:40]!r} does not exist. Choose an agent as the model: {known}")
