"""What the chat model gets, and when a reply that was made early is still the right one."""

from dataclasses import replace

import pytest

from shared.protocol.prompt import UNANSWERED, offered, prompt, prompt_hash
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool, ToolCall

SETTINGS = SessionSettings(instructions="Be brief.", tools=(Tool("lamp", "The lamp.", "{}"),))
OPTIONS = ReplyOptions()
CALL = ToolCall("c1", "lamp", '{"on": true}')


def made(*history: Message, turn: int = 2, text: str = "And now?") -> list[tuple[str, str]]:
    """Roles and texts of the prompt."""
    return [(message.role, message.text) for message in prompt(SETTINGS, OPTIONS, history, turn, text)]


def test_the_instructions_come_first_and_the_turn_last() -> None:
    history = (Message("user", "Hello.", 1), Message("assistant", "Hi.", 1))
    assert made(*history) == [("system", "Be brief."), ("user", "Hello."), ("assistant", "Hi."), ("user", "And now?")]


def test_what_was_said_in_this_turn_or_later_is_left_out() -> None:
    assert made(Message("user", "Hello.", 1), Message("user", "Later.", 2), text="") == [
        ("system", "Be brief."),
        ("user", "Hello."),
    ]


def test_the_instructions_of_a_reply_replace_those_of_the_session() -> None:
    (only,) = prompt(SETTINGS, ReplyOptions(instructions="Say goodbye."), (), 1, "")
    assert (only.role, only.text) == ("system", "Say goodbye.")
    assert prompt(SETTINGS, ReplyOptions(instructions=""), (), 1, "") == []


def test_an_interrupted_reply_ends_where_the_person_stopped_hearing_it() -> None:
    history = (Message("user", "Hello.", 1), Message("assistant", "Hi, I", 1, interrupted=True))
    assert made(*history, text="")[2:] == [("assistant", "Hi, I")]


def test_a_call_stands_with_its_answer_whenever_that_came() -> None:
    asks = Message("assistant", "One moment.", 1, calls=(CALL,))
    other = Message("user", "Hello?", 1)
    answer = Message("tool", "It is on.", 1, answers="c1")
    received = prompt(SETTINGS, OPTIONS, (asks, other, answer), 2, "")
    assert received[1:] == [asks, answer, other]


def test_a_call_without_an_answer_gets_one_and_an_answer_without_a_call_is_left_out() -> None:
    asks = Message("assistant", "", 1, calls=(CALL,))
    orphan = Message("tool", "Who asked?", 1, answers="c2")
    received = prompt(SETTINGS, OPTIONS, (asks, orphan), 2, "")
    assert received[1:] == [asks, Message("tool", UNANSWERED, 1, answers="c1")]


def test_calls_after_a_text_of_the_same_reply_belong_to_it() -> None:
    text, call = Message("assistant", "One moment.", 1), Message("assistant", "", 1, calls=(CALL,))
    received = prompt(SETTINGS, OPTIONS, (text, call), 2, "")
    assert received[1] == replace(text, calls=(CALL,))
    assert len(received) == 3


def test_tools_are_offered_unless_there_is_to_be_no_call() -> None:
    other = (Tool("door", "The door.", "{}"),)
    assert offered(SETTINGS, OPTIONS) == SETTINGS.tools
    assert offered(SETTINGS, ReplyOptions(tools=other)) == other
    assert offered(SETTINGS, ReplyOptions(tool_choice="none", tools=other)) == ()
    assert offered(replace(SETTINGS, tool_choice="none"), OPTIONS) == ()
    assert offered(replace(SETTINGS, tool_choice="none"), ReplyOptions(tool_choice="auto")) == SETTINGS.tools


MESSAGES = [Message("user", "Hello.", 1), Message("assistant", "Hi.", 1)]


@pytest.mark.parametrize(
    ("settings", "options", "messages"),
    [
        (SETTINGS, OPTIONS, MESSAGES[:1]),
        (SETTINGS, OPTIONS, [replace(MESSAGES[0], text="Hello!"), MESSAGES[1]]),
        (SETTINGS, OPTIONS, [MESSAGES[0], replace(MESSAGES[1], calls=(CALL,))]),
        (replace(SETTINGS, tools=()), OPTIONS, MESSAGES),
        (replace(SETTINGS, voice="nova"), OPTIONS, MESSAGES),
        (replace(SETTINGS, speed=1.2), OPTIONS, MESSAGES),
        (replace(SETTINGS, language="de"), OPTIONS, MESSAGES),
        (SETTINGS, ReplyOptions(spoken=False), MESSAGES),
        (SETTINGS, ReplyOptions(say="Welcome."), MESSAGES),
        (SETTINGS, ReplyOptions(tool_choice="required"), MESSAGES),
    ],
)
def test_whatever_changes_the_reply_changes_the_checksum(
    settings: SessionSettings, options: ReplyOptions, messages: list[Message]
) -> None:
    assert prompt_hash(settings, options, messages) != prompt_hash(SETTINGS, OPTIONS, MESSAGES)


def test_the_checksum_is_of_what_the_model_gets_and_of_nothing_else() -> None:
    later = [replace(message, turn=message.turn + 1) for message in MESSAGES]
    assert prompt_hash(replace(SETTINGS, endpoint_ms=900), ReplyOptions(spoken=True), later) == prompt_hash(
        SETTINGS, OPTIONS, MESSAGES
    )
