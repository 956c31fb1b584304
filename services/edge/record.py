"""The record of a session: what was said and what was heard, and its copy with the broker, which chat models are told from.

Written by the edge alone, at every change.
"""

from collections.abc import Sequence

from services.edge import events as ev
from services.edge.history import Conversation, reply_key, user_key
from services.edge.reply import Reply
from shared.bus import Bus
from shared.session import Message


class Record:
    """One conversation."""

    def __init__(self, bus: Bus, session: str) -> None:
        self._bus, self._session = bus, session
        self._conversation = Conversation()

    def messages(self) -> Sequence[Message]:
        return self._conversation.messages()

    def said(self, turn: int, text: str) -> None:
        """The person said, or typed, this."""
        self._conversation.put(user_key(turn), Message("user", text, turn))
        self._save()

    def has_said(self, turn: int) -> bool:
        """What the person said in this turn is known."""
        return self._conversation.has(user_key(turn))

    def heard(self, reply: Reply, samples: int) -> None:
        """So much of the reply was heard; nothing of it is no reply."""
        text = reply.heard_text(samples)
        if not text:
            self.forget(reply)
            return
        interrupted = not (reply.text_done and text == reply.text)
        message = Message("assistant", text, reply.turn, interrupted)
        self._conversation.put(reply_key(reply.turn), message, after=user_key(reply.turn))
        self._save()

    def forget(self, reply: Reply) -> None:
        """Nothing of this reply is on record, for now or for good."""
        self._conversation.remove(reply_key(reply.turn))
        self._save()

    def edit(self, action: ev.SetHistory, turn: int) -> None:
        """The client puts a message in, in this turn, or takes one out."""
        if action.role or action.text:
            self._conversation.put(action.key, Message(action.role, action.text, turn), action.after)
        else:
            self._conversation.remove(action.key)
        self._save()

    def clear(self) -> None:
        self._conversation.clear()
        self._save()

    def _save(self) -> None:
        self._bus.save_history(self._session, self._conversation.messages())
