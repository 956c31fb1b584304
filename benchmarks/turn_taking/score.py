"""Scores turn-taking: compares what was said with what the system did. Values in, values out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest

from deploy.client.performance import Sound

LATE_S = 1.0
"""A turn that is committed later than this after its end is a late commit."""
ANSWER_S = 4.0
"""A commit belongs to a turn that ended at most this long ago."""
REACT_S = 2.0
"""An interruption, and any other reaction to a sound, happens within this time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that the system did, at a time in seconds of the call."""

    at_s: float
    what: str
    """`commit`, `pause`, `resume`, `interrupt`."""


@dataclass(slots=True)
class Turn:
    """One turn as the person meant it."""

    start_s: float
    end_s: float
    into_reply: bool


@dataclass(slots=True)
class Score:
    """Counts, and times in ms."""

    turns: int = 0
    cut_offs: int = 0
    """Commits inside a turn."""
    missed_turns: int = 0
    false_turns: int = 0
    """Commits where nothing was said."""
    late_commits: int = 0
    commit_ms: list[float] = field(default_factory=list)
    """From the end of each turn to its commit."""
    interruptions: int = 0
    """Turns spoken during a reply."""
    missed_barge_ins: int = 0
    silence_ms: list[float] = field(default_factory=list)
    """From the onset of such a turn to silence."""
    noises: int = 0
    """Coughs and murmurs during a reply."""
    false_barge_ins: int = 0
    """Noises that ended the reply."""
    right_resumes: int = 0
    """Noises after which the reply went on."""
    wrong_resumes: int = 0
    """Resumes in the middle of a turn that was meant to interrupt."""
    history_off_words: list[int] = field(default_factory=list)
    """For each interrupted reply: surplus (above 0) or missing words in the history."""

    def add(self, other: "Score") -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def turns_of(sounds: Sequence[Sound]) -> list[Turn]:
    """The turns that the person meant. Speech after a pause belongs to the turn before the pause."""
    turns: list[Turn] = []
    for sound in sounds:
        if sound.cue.new_turn or (sound.cue.what == "say" and not turns):
            turns.append(Turn(sound.start_s, sound.end_s, sound.into_reply))
        elif sound.cue.what == "say":
            turns[-1].end_s = sound.end_s
    return turns


def score(sounds: Sequence[Sound], seen: Sequence[Seen]) -> Score:
    """Compare what the system did with what was said."""
    found = Score()
    turns = turns_of(sounds)
    found.turns = len(turns)
    commits = [one.at_s for one in seen if one.what == "commit"]
    for at_s in commits:
        inside = any(turn.start_s < at_s < turn.end_s for turn in turns)
        found.cut_offs += inside
        found.false_turns += not inside and not any(turn.end_s <= at_s <= turn.end_s + ANSWER_S for turn in turns)
    for turn, following in zip_longest(turns, turns[1:]):
        until_s = min(turn.end_s + ANSWER_S, following.start_s if following else float("inf"))
        mine = [at_s for at_s in commits if turn.end_s <= at_s <= until_s]
        if not mine:
            found.missed_turns += 1
            continue
        found.commit_ms.append(1000 * (mine[0] - turn.end_s))
        found.late_commits += mine[0] - turn.end_s > LATE_S
    for turn in turns:
        if turn.into_reply:
            _barge_in(found, turn, seen)
    for sound in sounds:
        if sound.cue.what != "say" and sound.into_reply:
            _noise(found, sound, [turn.start_s for turn in turns], seen)
    return found


def _barge_in(found: Score, turn: Turn, seen: Sequence[Seen]) -> None:
    found.interruptions += 1
    silenced = [one.at_s for one in seen if one.what in ("pause", "interrupt") and one.at_s >= turn.start_s]
    if silenced and silenced[0] <= turn.start_s + REACT_S:
        found.silence_ms.append(1000 * (silenced[0] - turn.start_s))
    final = any(one.what == "interrupt" and turn.start_s <= one.at_s <= turn.end_s + REACT_S for one in seen)
    found.missed_barge_ins += not final
    found.wrong_resumes += sum(one.what == "resume" and turn.start_s < one.at_s < turn.end_s for one in seen)


def _noise(found: Score, sound: Sound, starts_s: Sequence[float], seen: Sequence[Seen]) -> None:
    found.noises += 1
    until_s = min([sound.end_s + REACT_S, *(start_s for start_s in starts_s if start_s > sound.start_s)])
    after = [one.what for one in seen if sound.start_s <= one.at_s <= until_s]
    found.false_barge_ins += "interrupt" in after
    found.right_resumes += "resume" in after
