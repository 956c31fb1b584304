"""The keys under which the messages of a conversation are kept, and by which clients name them. Pure."""


def user_key(turn: int) -> str:
    """The key of what the person said in this turn."""
    return f"user:{turn}"


def reply_key(turn: int) -> str:
    """The key of the reply to this turn."""
    return f"reply:{turn}"


def call_key(call_id: str) -> str:
    """The key of a tool call, which a reply asked for."""
    return f"call:{call_id}"
