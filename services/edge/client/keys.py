"""The keys under which a session's history keeps its messages. Pure."""


def user_key(turn: int) -> str:
    """The key of what the person said in this turn."""
    return f"user:{turn}"


def reply_key(turn: int) -> str:
    return f"reply:{turn}"


def call_key(call_id: str) -> str:
    """The key of a call of a tool, which a reply asked for."""
    return f"call:{call_id}"
