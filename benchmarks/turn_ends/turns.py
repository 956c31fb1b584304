"""The turns of the benchmark: texts from turns.tsv, read by the speakers in turn, and recordings of people. Pure but for files."""

import csv
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speech.speakers import Line, Speaker
from deploy.client.performance import Samples, levelled, read_sound
from shared.protocol.session import RATE_HZ

TEXTS = Path(__file__).parent / "turns.tsv"
PLAIN, HUMAN = "plain", "human"
_PAUSE = re.compile(r"\s*\|([\d.]+)\|\s*")


@dataclass(frozen=True, slots=True)
class Text:
    """What one turn says, and where it pauses to think."""

    kind: str
    """`plain`, or what is interrupted by thinking: booking, phone, date, list, clause."""
    parts: tuple[str, ...]
    pauses_s: tuple[float, ...]
    """Between the parts; empty: the turn has no pause to think."""


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A turn as audio: 16 kHz, without silence at its ends."""

    speaker: str
    kind: str
    text: str
    samples: Samples


def read_texts(file: Path = TEXTS) -> list[Text]:
    with file.open(newline="", encoding="utf-8") as lines:
        return [parse_text(row["kind"], row["text"]) for row in csv.DictReader(lines, delimiter="\t")]


def parse_text(kind: str, text: str) -> Text:
    """Split at the pauses. What comes before a pause ends with a comma, so that the voice does not fall."""
    pieces = _PAUSE.split(text)
    *before, last = pieces[::2]
    return Text(kind, (*(part if part.endswith(",") else f"{part}," for part in before), last), tuple(map(float, pieces[1::2])))  # fmt: skip


def assign(texts: Sequence[Text], speakers: Sequence[Speaker]) -> list[tuple[Speaker, Text]]:
    """Give the texts to the speakers in turn. Each speaker gets plain texts and thoughtful ones alternately."""
    plain = [text for text in texts if text.kind == PLAIN]
    thoughtful = [text for text in texts if text.kind != PLAIN]
    both = zip(zip(itertools.cycle(speakers), plain, strict=False), zip(itertools.cycle(speakers), thoughtful, strict=False), strict=True)  # fmt: skip
    return [one for pair in both for one in pair]


def lines_of(assigned: Sequence[tuple[Speaker, Text]]) -> list[Line]:
    return [(speaker, part) for speaker, text in assigned for part in text.parts]


def spoken_turn(speaker: Speaker, text: Text, speech: Mapping[Line, Samples]) -> SpokenTurn:
    """Join the parts of a turn with its pauses."""
    pieces = [speech[speaker, text.parts[0]]]
    for pause_s, part in zip(text.pauses_s, text.parts[1:], strict=True):
        pieces += [np.zeros(int(pause_s * RATE_HZ), np.float32), speech[speaker, part]]
    return SpokenTurn(speaker.name, text.kind, " … ".join(text.parts), np.concatenate(pieces))


def human_turns(clips: Path) -> list[SpokenTurn]:
    """The recordings of a folder with a transcripts.tsv."""
    with (clips / "transcripts.tsv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [SpokenTurn(HUMAN, HUMAN, row["text"], levelled(read_sound(clips / row["file"]))) for row in rows]
