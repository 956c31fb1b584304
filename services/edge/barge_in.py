"""Barge-in: whether speech into a reply is meant to stop it.

The reply pauses at once, the first words that take the floor make that final, and without any it goes on.
"""

import asyncio
from collections.abc import Callable

from services.edge.account import Account
from services.edge.backchannels import takes_the_floor
from services.edge.replies import Replies
from services.edge.utterance import Utterance
from shared.protocol.session import SessionSettings

ANSWER_S = 1.0
"""What is said so shortly before the end of a reply answers it, be it only a "yes"."""


class BargeIn:
    """Into the replies of one session."""

    def __init__(self, replies: Replies, account: Account, settings: Callable[[], SessionSettings]) -> None:
        self._replies, self._account, self._settings = replies, account, settings
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def speaks(self, utterance: Utterance) -> None:
        """Someone speaks: if that is into a reply, it falls silent, now or after the time that it is protected."""
        if not (utterance.over_reply and utterance.interrupts):
            return
        settings, begun_s = self._settings(), self._replies.delivery.begun_s()
        wait_ms = float(max(0, settings.interrupt_ms - settings.start_ms))
        if begun_s is not None and (guard_ms := settings.echo_guard_ms - 1000 * begun_s) > 0:
            utterance.echo = True
            wait_ms = max(wait_ms, guard_ms)
        if wait_ms <= 0:
            if self._hold(utterance):
                self._account.silenced(utterance.onset)
        else:
            self.pauses()
            self._timer = self._loop.call_later(wait_ms / 1000, self._hold, utterance)

    def pauses(self) -> None:
        """Nobody speaks any more: a reply that did not fall silent yet does not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hold(self, utterance: Utterance) -> bool:
        self._timer = None
        utterance.echo = False
        left_s = self._replies.delivery.left_s()
        utterance.answers = left_s is not None and left_s < ANSWER_S
        return self._replies.hold(utterance.turn)

    def weigh(self, utterance: Utterance, text: str, turn: int) -> bool:
        """Words that take the floor end the reply that they were spoken into, and those to turns up to `turn`. Returns
        whether these do."""
        if not self._takes_floor(utterance, text):
            return False
        if utterance.over_reply and self._replies.delivery.held_by:
            utterance.over_reply = False
            self._replies.interrupt("speech", turn)
        return True

    def dismissal(self, utterance: Utterance) -> str:
        """Why an utterance into a reply, now that it is over, is no turn; empty if it is one. Without a transcript it
        counts as words."""
        if utterance.echo:
            return "echo"
        if utterance.transcript is None or self._takes_floor(utterance, utterance.transcript.text):
            return ""
        return "backchannel" if utterance.transcript.text else "noise"

    def _takes_floor(self, utterance: Utterance, text: str) -> bool:
        settings = self._settings()
        if utterance.answers:
            return bool(text)
        return takes_the_floor(text, settings.language, settings.min_words)
