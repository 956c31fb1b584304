"""What happened in a conversation, turn by turn, and how two accounts of it differ. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import (
    Frame,
    ReplyDelta,
    SpeechStarted,
    TranscriptFinal,
    TurnCommitted,
    TurnDiscarded,
    VoiceChunk,
)
from shared.protocol.session import RATE_HZ

NEAR_S = 1.0
"""Two accounts mean the same turn if its speech ends within this time."""
MARKS = ("endpoint", "transcript", "first_token", "first_audio")
COMMITTED, DISCARDED = "committed", "discarded"


@dataclass(slots=True)
class Turn:
    """One turn. Marks are ms since the end of speech."""

    end_s: float = 0.0
    """End of speech, in seconds of input audio or of the call; of a turn that was not spoken, when it was asked for."""
    spoken: bool = True
    decision: str = ""
    """`committed`, or `discarded` as something that was not said to the agent."""
    transcript: str = ""
    """Empty for a turn that was not spoken."""
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """The same turn in both accounts; None: one has no such turn."""

    before: Turn | None
    now: Turn | None

    def same_decision(self, tolerance_ms: float) -> bool:
        """Whether both committed or discarded it, for the same speech and after the same silence."""
        if self.before is None or self.now is None or self.before.decision != self.now.decision:
            return False
        waited = [turn.marks.get("endpoint", 0.0) for turn in (self.before, self.now)]
        ends_ms = [1000 * turn.end_s for turn in (self.before, self.now)]
        return all(abs(before - now) <= tolerance_ms for before, now in (waited, ends_ms))


def turns_of(entries: Iterable[tuple[str, Sequence[Frame]]], *, timed: bool, began_ms: int | None = None) -> list[Turn]:
    """Return the turns of a session's log, given as id and frames of its entries.

    `timed`: the ids are those of the broker, so that they say when each step was done. Otherwise only the endpoint is known,
    from the positions in the audio. `began_ms`: when the call began, by the broker's clock; None: `end_s` counts the audio.
    """
    turns: dict[int, Turn] = {}
    zero_ms: dict[int, float] = {}
    early: dict[tuple[int, int], dict[str, float]] = {}
    texts: dict[tuple[int, int], str] = {}
    for entry_id, frames in entries:
        at_ms = milliseconds(entry_id)
        for frame in frames:
            match frame:
                case SpeechStarted():
                    turns.setdefault(frame.turn, Turn(frame.onset / RATE_HZ))
                case TranscriptFinal():
                    texts[frame.turn, frame.revision] = frame.text
                    early.setdefault((frame.turn, frame.revision), {}).setdefault("transcript", at_ms)
                case ReplyDelta():
                    early.setdefault((frame.turn, frame.revision), {}).setdefault("first_token", at_ms)
                case VoiceChunk():
                    early.setdefault((frame.turn, frame.revision), {}).setdefault("first_audio", at_ms)
                case TurnDiscarded() if frame.turn in turns:
                    turns[frame.turn].decision = DISCARDED
                case TurnCommitted():
                    turn = turns.setdefault(frame.turn, Turn())
                    turn.decision, turn.spoken = COMMITTED, frame.end > frame.start
                    turn.end_s = frame.end / RATE_HZ
                    silence_ms = 1000 * (frame.decided_at - frame.end) / RATE_HZ if turn.spoken else 0.0
                    zero_ms[frame.turn] = frame.input_ms - silence_ms
                    turn.marks["endpoint"] = silence_ms
                    early[frame.turn, -1] = {"revision": frame.revision}
                case _:
                    pass
    for number, turn in turns.items():
        revision = int(early.get((number, -1), {}).get("revision", -2))
        turn.transcript = texts.get((number, revision), "") if turn.spoken else ""
        if timed and number in zero_ms:
            marks = early.get((number, revision), {})
            turn.marks |= {name: at_ms - zero_ms[number] for name, at_ms in marks.items()}
        if began_ms is not None and number in zero_ms:
            turn.end_s = (zero_ms[number] - began_ms) / 1000
    return [turn for turn in turns.values() if turn.decision]


def compare(before: Sequence[Turn], now: Sequence[Turn]) -> list[Difference]:
    """Pair the turns of two accounts, in the order of their speech."""
    rest = list(now)
    found = []
    for turn in before:
        near = [one for one in rest if one.spoken == turn.spoken and abs(one.end_s - turn.end_s) <= NEAR_S]
        match_ = min(near, key=lambda one: abs(one.end_s - turn.end_s), default=None)
        if match_ is not None:
            rest.remove(match_)
        found.append(Difference(turn, match_))
    found += [Difference(None, turn) for turn in rest]
    return sorted(found, key=lambda one: (one.before or one.now or Turn()).end_s)


def as_json(difference: Difference) -> Mapping[str, object]:
    def shown(turn: Turn | None) -> object:
        if turn is None:
            return None
        marks = {name: round(ms, 1) for name, ms in turn.marks.items()}
        return {"end_s": round(turn.end_s, 3), "spoken": turn.spoken, "decision": turn.decision,
                "transcript": turn.transcript, "marks_ms": marks}  # fmt: skip

    return {"before": shown(difference.before), "now": shown(difference.now)}
