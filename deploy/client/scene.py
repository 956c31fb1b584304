"""The script of a caller: what the person says, and when.

A scene is a text file with one cue a line: when, seconds, what, and its sound.

    about  A person thinks in the middle of a sentence.
    noise  pink 20                    # background noise, white or pink, in dB below the speech
    acoustics room                    # a room with hum and other people, or a telephone line
    at     0.5  say "I would like"    # seconds since the start of the call
    pause  0.9  say cards-002         # seconds since the end of the person's last sound: continues the same turn
    after  1.0  say "and now"         # seconds since the end of the reply, or of the last sound: a new turn
    reply  0.6  cough                 # seconds since the start of the reply
    reply  0.8  murmur "uh-huh"       # a sound of listening, not a turn

eSpeak speaks a sound in quotation marks. Other sounds are names of recordings. A cough is synthetic. `#` begins a comment.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

WHEN = ("at", "pause", "after", "reply")
WHAT = ("say", "murmur", "cough")
NOISES = ("white", "pink")
ACOUSTICS = ("room", "telephone")


class BadScene(ValueError):
    """A scene cannot be played. The message names file and line."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A sound that the person makes."""

    when: str
    """One of `WHEN`."""
    seconds: float
    what: str
    """One of `WHAT`."""
    sound: str = ""
    spoken: bool = False
    """`sound` is a text for eSpeak; otherwise it is the name of a recording."""

    @property
    def new_turn(self) -> bool:
        """Whether it begins a turn, and so needs a reply."""
        return self.what == "say" and self.when != "pause"


@dataclass(frozen=True, slots=True)
class Scene:
    """The person's side of a conversation."""

    name: str
    about: str
    cues: tuple[Cue, ...]
    noise: str = ""
    """One of `NOISES`; empty: no noise."""
    noise_db: float = 0.0
    """Level of the noise, in dB below the speech."""
    acoustics: str = ""
    """One of `ACOUSTICS`; empty: a microphone at the mouth, in a dead room."""


def parse_scene(text: str, name: str) -> Scene:
    """Parse a scene.

    Raises:
        BadScene: a line is not valid, or there are no cues.
    """
    about, noise, noise_db, acoustics, cues = "", "", 0.0, "", list[Cue]()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}, line {number}"
        spoken = '"' in line.partition("#")[0]
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BadScene(f"{where}: {error}") from None
        if not words:
            continue
        head, *rest = words
        if head == "about":
            about = " ".join(rest)
        elif head == "noise":
            if len(rest) != 2 or rest[0] not in NOISES:
                raise BadScene(f"{where}: noise needs one of {', '.join(NOISES)}, and the dB below the speech")
            noise, noise_db = rest[0], _number(rest[1], where)
        elif head == "acoustics":
            if rest not in [[name] for name in ACOUSTICS]:
                raise BadScene(f"{where}: acoustics needs one of {', '.join(ACOUSTICS)}")
            acoustics = rest[0]
        elif head in WHEN:
            cues.append(_cue(head, rest, spoken, where))
            if len(cues) == 1 and head != "at":
                raise BadScene(f"{where}: the first cue has to begin with: at SECONDS")
        else:
            raise BadScene(f"{where}: {head!r} is not one of about, noise, acoustics, {', '.join(WHEN)}")
    if not cues:
        raise BadScene(f"{name}: there is nothing to play: it has no cues")
    return Scene(name, about, tuple(cues), noise, noise_db, acoustics)


def _cue(when: str, rest: list[str], spoken: bool, where: str) -> Cue:
    if len(rest) < 2 or rest[1] not in WHAT:
        raise BadScene(f"{where}: {when} needs SECONDS, and one of {', '.join(WHAT)}")
    seconds, what, sound = _number(rest[0], where), rest[1], " ".join(rest[2:])
    if what == "cough":
        if sound:
            raise BadScene(f"{where}: a cough takes no sound")
        return Cue(when, seconds, what)
    if not sound:
        raise BadScene(f'{where}: {what} needs a "text" or the name of a recording')
    return Cue(when, seconds, what, sound, spoken)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise BadScene(f"{where}: {text!r} is not a number from 0 to 600")
    return value


def load_scenes(path: Path) -> list[Scene]:
    """Read the scene of a file, or all `*.scene` files of a folder in alphabetical order.

    Raises:
        BadScene: there is no scene, or one cannot be played.
    """
    files = sorted(path.glob("*.scene")) if path.is_dir() else [path]
    if not files:
        raise BadScene(f"{path}: no .scene file in this folder")
    try:
        return [parse_scene(file.read_text(), file.stem) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise BadScene(f"{path}: {error}") from None
