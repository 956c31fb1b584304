"""A client that plays what it receives in real time, and reports everything that it should not receive."""

from typing import Any, Protocol

import numpy as np

from services.edge.client import events as ev
from shared.protocol.frames import TurnCommitted

RATE = 1000
"""Samples a second of the client and of the voice."""


class Knowledge(Protocol):
    """What the client is checked against."""

    now_s: float
    committed: dict[int, TurnCommitted]
    said: dict[tuple[int, int], str]

    def full_text(self, turn: int) -> str: ...

    def voice(self, turn: int) -> np.ndarray[Any, Any]: ...

    def revision_of(self, turn: int) -> int: ...

    def check_told(self, turn: int) -> None: ...


class CarefulClient:
    """Plays one reply at a time."""

    def __init__(self, world: Knowledge, *, can_pause: bool) -> None:
        self.world, self.can_pause = world, can_pause
        self.turn = 0
        """The reply that it plays."""
        self.paused = self.ended = False
        self.sent = 0
        self._base: float = 0
        self._base_s = 0.0
        self.heard: dict[int, float] = {}
        """Samples of each reply that were played."""
        self.text: dict[int, str] = {}
        self.words: dict[int, str] = {}
        """The final transcripts."""
        self.revisions: dict[int, int] = {}
        self.began: dict[int, bool] = {}
        """Turns that were accepted, and whether a reply was announced."""
        self.statuses: dict[int, list[str]] = {}
        self.calls: list[str] = []
        """Ids of the tools that it is to run."""
        self.unanswered: list[str] = []

    def position(self) -> float:
        if self.paused or not self.turn:
            return self._base
        return min(self.sent, self._base + (self.world.now_s - self._base_s) * RATE)

    def _set(self, samples: float) -> None:
        self._base, self._base_s = samples, self.world.now_s

    def leave(self) -> None:
        """The reply is over for this client."""
        if self.turn:
            self.heard[self.turn] = self._base = self.position()
            self.turn = 0

    def tell(self, event: ev.Event) -> None:
        match event:
            case ev.TurnBegan(turn, _, wants_reply):
                assert turn not in self.began, f"turn {turn} began twice"
                assert turn in self.world.committed, f"turn {turn} began before it was over"
                self.began[turn] = wants_reply
            case ev.ReplyBegan(turn):
                if self.turn:
                    assert self.ended, f"reply {turn} began while {self.turn} is being sent"
                    assert not self.paused, f"reply {turn} began while {self.turn} is paused"
                    assert self.position() >= self.sent - 1, f"reply {turn} began while {self.turn} plays"
                    self.leave()
                assert self.began.get(turn), f"reply {turn} to a turn that waits for none"
                assert turn not in self.text, f"reply {turn} began twice"
                self.turn, self.text[turn], self.sent, self.ended, self.paused = turn, "", 0, False, False
                self._set(0)
                self.revisions[turn] = self.world.revision_of(turn)
                self.world.check_told(turn)
            case ev.Transcribed(turn, text, True):
                revision = self.world.committed[turn].revision
                assert text == self.world.said.get((turn, revision)), f"turn {turn}: words of another revision"
                self.words[turn] = text
            case ev.ReplyText(turn, text):
                self._expect(turn)
                self.text[turn] += text
                assert self.world.full_text(turn).startswith(self.text[turn]), f"stale text of reply {turn}"
            case ev.ReplyAudio(turn, offset, pcm):
                self._expect(turn)
                samples = np.frombuffer(pcm, "<i2")
                assert offset == self.sent, f"audio at {offset}, expected at {self.sent}"
                expected = self.world.voice(turn)[offset : offset + len(samples)]
                assert np.array_equal(samples, expected), f"stale audio of reply {turn}"
                if self.position() >= self.sent:
                    self._set(self.sent)
                self.sent += len(samples)
            case ev.ReplyEnded(turn, status, _, calls):
                assert status == "completed" or not calls
                for call in calls:
                    assert call.id not in self.calls, f"the tool {call.id} is called twice"
                    self.calls.append(call.id)
                    self.unanswered.append(call.id)
                if turn == self.turn:
                    assert not self.ended, f"reply {turn} ended twice"
                    self.ended = True
                elif turn not in self.heard:
                    assert self.began.get(turn), f"the end of reply {turn}, which nobody waits for"
                    assert turn not in self.statuses, f"reply {turn} ended twice"
                self.statuses.setdefault(turn, []).append(status)
            case ev.Pause(turn, heard_ms):
                assert turn == self.turn
                assert not self.paused, f"reply {turn} was paused twice"
                self._set(self.position())
                self.paused = True
                assert abs(heard_ms - self._base * 1000 / RATE) <= 2
            case ev.Resume(turn, from_ms):
                assert turn == self.turn
                assert self.paused, f"reply {turn} goes on and was not paused"
                self.paused = False
                self._set(self._base)
                assert abs(from_ms - self._base * 1000 / RATE) <= 2
                if not self.can_pause:
                    self.sent = self._base = from_ms * RATE // 1000
                    self.ended = False
            case ev.Interrupt(turn, heard_ms):
                assert turn == self.turn
                assert abs(heard_ms - self.position() * 1000 / RATE) <= 2
                self.leave()
            case _:
                pass

    def _expect(self, turn: int) -> None:
        assert turn == self.turn, f"content of reply {turn} while {self.turn} plays"
        assert turn in self.world.committed, f"reply {turn} left before the commit"
        assert not self.ended, f"reply {turn} goes on after its end"
        assert not self.paused, f"reply {turn} goes on while it is paused"
