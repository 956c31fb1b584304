"""A conversation as a script: who speaks when, with what. Pure.

A scene is a text, a cue on each line: when, so many seconds, what, with which sound.

    about  A person thinks in the middle of a sentence.
    noise  pink 20                    # so many dB below the speech; white or pink
    at     0.5  say "I would like"    # by the clock of the call
    pause  0.9  say cards-002         # so long after what the person said before: the same turn goes on
    after  1.0  say "and now"         # so long after the reply (or, if there was none, what was said): a new turn
    reply  0.6  cough                 # so long after the reply began to sound
    reply  0.8  murmur "uh-huh"       # a sound of listening, which is no turn

A sound in quotation marks is spoken by eSpeak, another is the name of a recording; a cough needs none. `#` begins a remark.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

WHEN = ("at", "pause", "after", "reply")
WHAT = ("say", "murmur", "cough")
NOISES = ("white", "pink")


class BadScene(ValueError):
    """A scene that cannot be played; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One thing that the person does."""

    when: str
    """One of `WHEN`."""
    seconds: float
    what: str
    """One of `WHAT`."""
    sound: str = ""
    spoken: bool = False
    """The sound is a text; else the name of a recording."""

    @property
    def new_turn(self) -> bool:
        """It begins something that deserves an answer."""
        return self.what == "say" and self.when != "pause"


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole conversation, as far as the person goes."""

    name: str
    about: str
    cues: tuple[Cue, ...]
    noise: str = ""
    """Empty: none."""
    noise_db: float = 0.0


def parse_scene(text: str, name: str) -> Scene:
    """The scene that a text describes.

    Raises:
        BadScene: a line that cannot be understood, or nothing to play.
    """
    about, noise, noise_db, cues = "", "", 0.0, list[Cue]()
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
                raise BadScene(f"{where}: noise is one of {', '.join(NOISES)}, and so many dB below the speech")
            noise, noise_db = rest[0], _number(rest[1], where)
        elif head in WHEN:
            cues.append(_cue(head, rest, spoken, where))
            if len(cues) == 1 and head != "at":
                raise BadScene(f"{where}: the first cue is by the clock: at SECONDS …")
        else:
            raise BadScene(f"{where}: {head!r} is none of about, noise, {', '.join(WHEN)}")
    if not cues:
        raise BadScene(f"{name}: there is nothing to play")
    return Scene(name, about, tuple(cues), noise, noise_db)


def _cue(when: str, rest: list[str], spoken: bool, where: str) -> Cue:
    if len(rest) < 2 or rest[1] not in WHAT:
        raise BadScene(f"{where}: {when} SECONDS, then one of {', '.join(WHAT)}")
    seconds, what, sound = _number(rest[0], where), rest[1], " ".join(rest[2:])
    if what == "cough":
        if sound:
            raise BadScene(f"{where}: a cough has no sound of its own")
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
        raise BadScene(f"{where}: {text!r} is no number from 0 to 600")
    return value


def load_scenes(path: Path) -> list[Scene]:
    """The scene of a file, or all `*.scene` of a folder.

    Raises:
        BadScene: none there, or one that cannot be played.
    """
    files = sorted(path.glob("*.scene")) if path.is_dir() else [path]
    if not files:
        raise BadScene(f"{path}: there is no .scene in it")
    try:
        return [parse_scene(file.read_text(), file.stem) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise BadScene(f"{path}: {error}") from None
