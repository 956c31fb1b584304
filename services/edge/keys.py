"""Keys of the messages in a session's history. Codecs use them to change a message that was said in a turn. Pure."""


def user_key(turn: int) -> str:
    """The key of what the person said in this turn."""
    return f"user:{turn}"


def reply_key(turn: int) -> str:
    """The key of the reply to this turn."""
    return f"reply:{turn}"


def call_key(call_id: str) -> str:
    """The key of a tool call that a reply made."""
    return f"call:{call_id}"
