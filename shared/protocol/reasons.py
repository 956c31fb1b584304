"""Why a turn failed, and why a reply ended early: codes that clients get and that label metrics and traces. Pure."""

STAGE_FAILED = "stage_failed"
"""A stage has given up: see its log."""
TURN_DEADLINE = "turn_deadline"
"""No stage made progress for too long."""
REPLY_DEADLINE = "reply_deadline"
"""The voice of the reply did not come in time."""
NO_VOICE = "no_voice"
"""The voice made no sound of a reply with words in it."""
EMPTY_REPLY = "empty_reply"
"""The chat model has said nothing."""
UNKNOWN_TOOL = "unknown_tool"
"""The chat model has said nothing, and asked for a tool that was not declared."""
PROMPT_TOO_LONG = "prompt_too_long"
"""The turn alone is longer than the chat model takes."""
MAX_OUTPUT_TOKENS = "max_output_tokens"
"""The reply has reached its longest length; where a turn failed, before anything was said."""
CONTENT_FILTER = "content_filter"
"""A filter at the chat model's provider has ended the reply, or did not let it begin."""

CUTS = (MAX_OUTPUT_TOKENS, CONTENT_FILTER)
"""Why the text of a reply ends early."""
FAILURES = (STAGE_FAILED, TURN_DEADLINE, REPLY_DEADLINE, NO_VOICE, EMPTY_REPLY, UNKNOWN_TOOL, PROMPT_TOO_LONG, *CUTS)
"""Why a turn fails."""


def known_failure(code: str) -> str:
    """The same code, if this release knows it; a later one may have more."""
    return code if code in FAILURES else STAGE_FAILED
