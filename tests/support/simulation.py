"""Conversations in virtual time, with random pauses, delays, interruptions and deaths: does anything stale leave the edge?

`python -m tests.support.simulation --turns 10000`. Real are the vad, asr, llm and tts stages, the worker's handling of leases
and stop messages, turn-taking, and the edge's session. Simulated are the broker, the engines and the client.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.progress import track

from services.asr.stage import AsrStage
from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.session import Session
from services.llm.stage import LlmStage
from services.tts.stage import TtsStage
from services.vad.endpointing.engine import FixedDetector
from services.vad.stage import VadStage
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.settings import Settings
from tests.support import virtual_time
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_engines import CHUNK, Detector, Model, Recognizer, Samples, Voice, reply_to, voice_of
from tests.support.simulated_workers import SimulatedStage

LOUD = np.full(CHUNK, 1000, "<i2").tobytes()
QUIET = bytes(2 * CHUNK)


@dataclass
class Client:
    """A codec without a wire: keeps what it receives, and checks every piece of every reply."""

    can_pause: bool
    rate_hz: int = RATE_HZ
    largest_message: int = 1 << 20
    shows_failures: bool = True
    starts_with: SessionSettings | None = None
    resumable: None = None
    said: dict[int, str] = field(default_factory=dict)
    """The final transcript of each turn."""
    actions: list[act.Action] = field(default_factory=list)
    """Actions of its next message."""
    typed: list[str] = field(default_factory=list)
    """What was typed and has no turn yet."""
    text: dict[int, str] = field(default_factory=dict)
    due: dict[int, Samples] = field(default_factory=dict)
    """All samples of each reply, once the transcript is known."""
    faults: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    paused: int = 0
    ended: dict[int, str] = field(default_factory=dict)
    replying: int = 0
    samples: int = 0
    omni: bool = False
    """A turn's transcript may arrive after its reply, so replies are checked at the end."""
    heard: list[tuple[int, int, Samples]] = field(default_factory=list)
    """Turn, offset and samples that are checked at the end."""

    def decode(self, message: str | bytes) -> Sequence[act.Action]:
        done, self.actions = self.actions, []
        return done

    def encode(self, event: ev.Event) -> Sequence[str | bytes]:
        self.seen[type(event).__name__] += 1
        match event:
            case ev.Transcribed(turn, text, True):
                self.said[turn] = text
            case ev.TurnBegan(turn, 0):
                self.said[turn] = self.typed.pop(0)
            case ev.ReplyBegan(turn):
                self._begin(turn)
            case ev.ReplyText(turn, text):
                self._read(turn, text)
            case ev.ReplyAudio(turn, offset, pcm):
                self._hear(turn, offset, np.frombuffer(pcm, "<i2"))
            case ev.Pause(turn):
                self.paused = turn
            case ev.Resume(turn) | ev.Interrupt(turn):
                self.paused = 0
            case ev.ReplyEnded(turn, status):
                self.seen[status] += 1
                self._end(turn, status)
            case ev.Failed(code, message, turn):
                self.faults.append(f"turn {turn}: {code} {message}")
            case _:
                pass
        return ()

    def _begin(self, turn: int) -> None:
        if turn not in self.said and not self.omni:
            self.faults.append(f"reply to turn {turn} before its transcript")
        if turn in self.text:
            self.faults.append(f"reply to turn {turn} twice")
        if self.paused:
            self.faults.append(f"reply to turn {turn} while that to {self.paused} is paused")
        self.replying = turn
        self.text[turn] = ""
        self.due[turn] = np.concatenate([voice_of(text.strip()) for text in reply_to(self.said.get(turn, ""))])

    def _read(self, turn: int, text: str) -> None:
        self.text[turn] = self.text.get(turn, "") + text
        if not self.omni:
            self._check_text(turn, text)

    def _check_text(self, turn: int, text: str) -> None:
        if not "".join(reply_to(self.said.get(turn, ""))).startswith(self.text[turn]):
            self.faults.append(f"turn {turn}: stale text {text!r}, said was {self.said.get(turn)!r}")

    def _hear(self, turn: int, offset: int, samples: Samples) -> None:
        self.samples += len(samples)
        if turn != self.replying or self.paused:
            self.faults.append(f"audio of turn {turn} while {self.replying} is the reply, {self.paused} paused")
        if self.omni:
            self.heard.append((turn, offset, samples))
        else:
            self._check(turn, offset, samples)

    def _check(self, turn: int, offset: int, samples: Samples) -> None:
        if not np.array_equal(samples, self.due[turn][offset : offset + len(samples)]):
            self.faults.append(f"turn {turn}: stale samples at {offset}")

    def _end(self, turn: int, status: str) -> None:
        if status == "completed" and not self.omni and self.text[turn] != "".join(reply_to(self.said[turn])):
            self.faults.append(f"turn {turn}: completed with {self.text[turn]!r}")
        self.ended[turn] = status

    def check_heard(self) -> None:
        """Check every reply against the transcript of its turn. A cough has no transcript, and may be answered."""
        for turn, status in self.ended.items():
            if not (said := self.said.get(turn)) or turn not in self.text:
                continue
            self.due[turn] = np.concatenate([voice_of(text.strip()) for text in reply_to(said)])
            self._check_text(turn, self.text[turn])
            if status == "completed" and self.text[turn] != "".join(reply_to(said)):
                self.faults.append(f"turn {turn}: completed with {self.text[turn]!r}")
        for turn, offset, samples in self.heard:
            if self.said.get(turn) and turn in self.ended:
                self._check(turn, offset, samples)


async def converse(
    seed: int, turns: int, *, speculate: bool = True, kill_chance: float = 0.02, omni: bool = False
) -> Client:
    """Run one session of this many turns, answered from transcripts or (`omni`) from audio."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    settings = Settings(redis_url=None, first_clause_words=0)
    bus = SimulatedBus(chance, (0.0, chance.choice([0.004, 0.02, 0.08])))
    slowest_s = chance.choice([0.03, 0.15, 0.6])
    client = Client(can_pause=chance.random() < 0.5, omni=omni)
    async with asyncio.TaskGroup() as tasks:
        stages = {
            stage.name: SimulatedStage(stage, settings, bus, tasks, kill_chance, 0.25)
            for stage in (
                VadStage(Detector(), FixedDetector(settings), 100, "simulated", "fixed"),
                AsrStage(Recognizer(chance, slowest_s), "simulated"),
                LlmStage(Model(chance, slowest_s), "simulated", 0, 400),
                TtsStage(Voice(chance, slowest_s / 3), "simulated", 30.0),
            )
        }
        bus.on_job = lambda stage, stream, entry_id, frame: stages[stage].take(stream, entry_id, frame)
        closed: list[tuple[int, str]] = []
        session = Session(
            bus, client, settings, Abilities(hears=True), lambda message: True, lambda *why: closed.append(why)
        )
        session.start(SessionSettings(speculations=3 if speculate else 0, route="omni" if omni else "cascade"))
        began_s = loop.time()
        for sent, pcm in enumerate(_speech(chance, turns), 1):
            client.actions.append(act.Audio(pcm))
            if chance.random() < 0.002:
                client.actions.append(act.SetHistory(f"note{sent}", "system", "The weather is fine."))
            if chance.random() < 0.001:
                for number in range(chance.choice([1, 1, 1, 8])):  # one text, or a burst of them
                    client.typed.append(f"{sent} typed, number {number}")
                    client.actions.append(act.Say(client.typed[-1]))
            session.receive(b"")
            await asyncio.sleep(max(0.0, began_s + sent * CHUNK / RATE_HZ - loop.time()))
        await asyncio.sleep(20)
        _judge(client, session, closed, stages)
        session.end("left")
        await asyncio.sleep(3)
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
    client.seen["kills"] = sum(stage.kills for stage in stages.values())
    client.seen["stale frames dropped"] = session.stats()["stale"]
    return client


def _speech(chance: random.Random, turns: int) -> Sequence[bytes]:
    """The microphone's chunks: turns with pauses, coughs, and silences of various lengths."""
    chunks: list[bytes] = [QUIET] * 5
    for _ in range(turns):
        for part in range(chance.choice([1, 1, 2, 3])):
            if part:
                chunks += [QUIET] * chance.choice([2, 3, 4])  # within a turn
            chunks += [LOUD] * (chance.randint(1, 2) if chance.random() < 0.15 else chance.randint(4, 15))
        chunks += [QUIET] * chance.choice([6, 8, 12, 20, 30, 45])  # the endpoint is 5
    return chunks


def _judge(client: Client, session: Session, closed: list[tuple[int, str]], stages: dict[str, SimulatedStage]) -> None:
    """Check what must hold at the end, when nobody speaks and every reply is over."""
    for name, stage in stages.items():
        if not stage.stage.long_lived and (stage.in_hand or stage.leases):
            client.faults.append(f"at rest {name} holds {stage.in_hand} slots and {len(stage.leases)} leases")
    if client.omni:
        client.check_heard()
    if closed:
        client.faults.append(f"closed: {closed}")
    if paused_by := session.conversation.state.paused_by_turn:  # nobody speaks any more
        client.faults.append(f"turn {paused_by} still pauses the reply")
    if client.paused:
        client.faults.append(f"the reply to turn {client.paused} is still paused")
    if client.said:
        last = max(client.said)
        if client.said[last] and client.ended.get(last) != "completed":
            client.faults.append(f"the last turn {last} was not answered: {client.ended.get(last)}")
    users = [message.text for message in session.conversation.state.record.messages() if message.role == "user"]
    final = [text for turn, text in sorted(client.said.items()) if text]
    if [text for text in users if "typed" not in text] != [text for text in final if "typed" not in text]:
        client.faults.append(f"history {users} is not what was said {final}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.simulation", description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--per-session", type=int, default=25, help="turns of a session")
    parser.add_argument("--seed", type=int, default=1, help="of the first session")
    parser.add_argument("--omni", action="store_true", help="the chat model hears the turns itself")
    options = parser.parse_args()
    seen: Counter[str] = Counter()
    faults: list[str] = []
    for seed in track(range(options.seed, options.seed + -(-options.turns // options.per_session))):
        client = virtual_time.run(converse(seed, options.per_session, omni=options.omni))
        seen.update(client.seen)
        seen["samples of replies released"] += client.samples
        faults += [f"seed {seed}: {fault}" for fault in client.faults]
    for name, count in sorted(seen.items()):
        print(f"{count:9d}  {name}")
    print(f"{len(faults):9d}  faults", *faults[:20], sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
