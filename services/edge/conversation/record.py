"""The record of a session: what was said and what was heard. Chat models read it. Pure.

Each change returns the effect that saves it for them.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.edge.client import actions as act
from services.edge.client.keys import call_key, reply_key, user_key
from services.edge.conversation.effects import SaveHistory
from services.edge.conversation.history import Conversation
from services.edge.conversation.reply import Reply
from shared.protocol.session import Message, ToolCall


class Record:
    """What was said between one client and the agent."""

    def __init__(self) -> None:
        self._conversation = Conversation()

    def messages(self) -> Sequence[Message]:
        return self._conversation.messages()

    def restore(self, messages: Sequence[Message], keys: Sequence[str]) -> None:
        """Put in the messages of an earlier record, each under its key."""
        for at, message in enumerate(messages):  # an older release kept no keys
            self._conversation.put(keys[at] if at < len(keys) else f"earlier_{at}", message)

    def save(self) -> SaveHistory:
        return SaveHistory(self._conversation.messages(), self._conversation.keys())

    def texts(self, turn: int) -> tuple[str, str]:
        """Return what the person said in this turn, and the part of its reply that was heard."""
        messages = [message for message in self._conversation.messages() if message.turn == turn]
        said, heard = (
            " ".join(filter(None, (message.text for message in messages if message.role == role)))
            for role in ("user", "assistant")
        )
        return said, heard

    @property
    def ends_with_answer(self) -> bool:
        """Whether the newest message is the result of a tool."""
        messages = self._conversation.messages()
        return bool(messages) and messages[-1].role == "tool"

    def said(self, turn: int, text: str) -> SaveHistory:
        """Record what the person said or typed; the reply may be on record already."""
        self._conversation.put_said(turn, Message("user", text, turn))
        return self.save()

    def heard(self, reply: Reply, samples: int) -> SaveHistory:
        """Record that the person heard this much of the reply. A reply of which nothing was heard is not on record, unless it asked
        for tools."""
        text = reply.heard_text(samples)
        if not text and not reply.called:
            return self.forget(reply)
        interrupted = not (reply.text_done and text == reply.text)
        message = Message("assistant", text, reply.turn, interrupted)
        self._conversation.put(reply_key(reply.turn), message, after=user_key(reply.turn))
        return self.save()

    def forget(self, reply: Reply) -> SaveHistory:
        """Take this reply off the record, for now or for ever; the place before its calls is kept."""
        if reply.called:
            self._conversation.put(reply_key(reply.turn), Message("assistant", "", reply.turn))
        else:
            self._conversation.remove(reply_key(reply.turn))
        return self.save()

    def called(self, turn: int, calls: Sequence[ToolCall]) -> tuple[tuple[ToolCall, ...], SaveHistory]:
        """Record that the reply to this turn calls tools. Returns the calls, each under an id that no other call has."""
        taken = {call.id for message in self._conversation.messages() for call in message.calls}
        unique: list[ToolCall] = []
        after = reply_key(turn)
        for number, call in enumerate(calls):
            call_id = call.id if call.id and call.id not in taken else f"{call.id or 'call'}_{turn}_{number}"
            taken.add(call_id)
            unique.append(replace(call, id=call_id))
            self._conversation.put(call_key(call_id), Message("assistant", "", turn, calls=(unique[-1],)), after=after)
            after = call_key(call_id)
        return tuple(unique), self.save()

    def edit(self, action: act.SetHistory, turn: int) -> SaveHistory:
        """Put in a client's message, in this turn, or take one out."""
        if action.role or action.text:
            message = Message(action.role, action.text, turn, calls=action.calls, answers=action.answers)
            self._conversation.put(action.key, message, action.after)
        else:
            self._conversation.remove(action.key)
        return self.save()

    def clear(self) -> SaveHistory:
        self._conversation.clear()
        return self.save()
