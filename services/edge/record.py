"""The record of a session: what was said and what was heard, and its copy with the broker, which chat models are told from.

Written by the edge alone, at every change.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.edge.client import actions as act
from services.edge.client.keys import call_key, reply_key, user_key
from services.edge.history import Conversation
from services.edge.reply import Reply
from shared.bus.session_store import SessionStore
from shared.protocol.session import Message, ToolCall


class Record:
    """One conversation."""

    def __init__(self, bus: SessionStore, session: str) -> None:
        self._bus, self._session = bus, session
        self._conversation = Conversation()

    def messages(self) -> Sequence[Message]:
        return self._conversation.messages()

    def said(self, turn: int, text: str) -> None:
        """The person said, or typed, this; the reply may be on record already."""
        self._conversation.put_said(turn, Message("user", text, turn))
        self._save()

    def has_said(self, turn: int) -> bool:
        """What the person said in this turn is known."""
        return self._conversation.has(user_key(turn))

    def heard(self, reply: Reply, samples: int) -> None:
        """So much of the reply was heard; nothing of it is no reply, unless it asked for tools."""
        text = reply.heard_text(samples)
        if not text and not reply.called:
            self.forget(reply)
            return
        interrupted = not (reply.text_done and text == reply.text)
        message = Message("assistant", text, reply.turn, interrupted)
        self._conversation.put(reply_key(reply.turn), message, after=user_key(reply.turn))
        self._save()

    def forget(self, reply: Reply) -> None:
        """Nothing of this reply is on record, for now or for good; the place before its calls is kept."""
        if reply.called:
            self._conversation.put(reply_key(reply.turn), Message("assistant", "", reply.turn))
        else:
            self._conversation.remove(reply_key(reply.turn))
        self._save()

    def called(self, turn: int, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """The reply to this turn asks for tools. Returns the calls, each under an id that no other call has."""
        taken = {call.id for message in self._conversation.messages() for call in message.calls}
        unique: list[ToolCall] = []
        after = reply_key(turn)
        for number, call in enumerate(calls):
            call_id = call.id if call.id and call.id not in taken else f"{call.id or 'call'}_{turn}_{number}"
            taken.add(call_id)
            unique.append(replace(call, id=call_id))
            self._conversation.put(call_key(call_id), Message("assistant", "", turn, calls=(unique[-1],)), after=after)
            after = call_key(call_id)
        if unique:
            self._save()
        return tuple(unique)

    @property
    def ends_with_answer(self) -> bool:
        """The newest that was said is what a tool answered."""
        messages = self._conversation.messages()
        return bool(messages) and messages[-1].role == "tool"

    def edit(self, action: act.SetHistory, turn: int) -> None:
        """The client puts a message in, in this turn, or takes one out."""
        if action.role or action.text:
            message = Message(action.role, action.text, turn, calls=action.calls, answers=action.answers)
            self._conversation.put(action.key, message, action.after)
        else:
            self._conversation.remove(action.key)
        self._save()

    def clear(self) -> None:
        self._conversation.clear()
        self._save()

    def _save(self) -> None:
        self._bus.save_history(self._session, self._conversation.messages())
