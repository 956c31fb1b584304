"""Scenes with detector and turn-taking only, in virtual time: seconds for all scenes.

There is no recogniser: 400 ms of speech during a reply count as a word.
"""

from collections.abc import Mapping

from benchmarks.turn_taking.score import Score, Seen, score
from deploy.client.performance import Performer, Samples
from deploy.client.scene import Cue, Scene
from services.vad.endpointing.engine import ENGINES as ENDPOINTING
from services.vad.endpointing.engine import Pause
from services.vad.engine import ENGINES as DETECTORS
from services.vad.pauses import WENT_ON_MS
from services.vad.turn_taking import TurnTaker
from shared.engines.registry import create_engine
from shared.protocol.frames import SpeechPaused, SpeechResumed, SpeechStarted, TurnCommitted
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.settings import Settings

REPLY_DELAY_S, REPLY_S, WORD_S = 0.3, 5.0, 0.4
"""From commit to reply, length of the reply, and length of speech that counts as a word."""

Sounds = Mapping[Cue, Samples]


async def virtual_score(scene: Scene, sounds: Sounds, detector: str, endpointing: str) -> Score:
    settings, session = Settings(), SessionSettings()
    detectors = create_engine("vad", detector, DETECTORS, settings)
    ends = create_engine("endpoint", endpointing, ENDPOINTING, settings)
    await detectors.load()
    await ends.load()
    state, speaker, taker = detectors.open(), ends.open(), TurnTaker("s", session)
    performer = Performer(scene, sounds)
    seen: list[Seen] = []
    pcm_so_far = bytearray()
    reply_at_s = reply_over_s = held_at_s = paused_at_s = float("inf")
    into_reply = False
    while not performer.over:
        frame = performer.frame()
        pcm_so_far += frame
        now_s = performer.now_s
        for fact in taker.hear(detectors.judge([(state, frame)])[0][0], f"{int(1000 * now_s) + 1}-0"):
            match fact:
                case SpeechStarted() | SpeechResumed():
                    into_reply = reply_at_s <= now_s < reply_over_s
                    if into_reply:
                        held_at_s = now_s
                        seen.append(Seen(now_s, "pause"))
                    pause_ms = (fact.onset / RATE_HZ - paused_at_s) * 1000
                    if isinstance(fact, SpeechResumed) or 0 <= pause_ms <= WENT_ON_MS:
                        speaker.resumed(round(pause_ms))
                case SpeechPaused():
                    paused_at_s = fact.end / RATE_HZ
                    pcm = bytes(pcm_so_far[-2 * int(ends.audio_s * RATE_HZ) :]) if ends.audio_s else b""
                    decision = await speaker.decide(Pause(fact.turn, fact.revision, pcm), session)
                    taker.wait(fact.turn, fact.revision, decision.wait_ms)
                    if held_at_s < float("inf"):  # a false interruption
                        reply_over_s += now_s - held_at_s
                        held_at_s = float("inf")
                        seen.append(Seen(now_s, "resume"))
                case TurnCommitted():
                    speaker.committed(round(1000 * (fact.decided_at - fact.end) / RATE_HZ))
                    if not into_reply:
                        seen.append(Seen(now_s, "commit"))
                        reply_at_s = now_s + REPLY_DELAY_S
                        reply_over_s = reply_at_s + REPLY_S
                    into_reply = False
                case _:
                    pass
        if now_s >= held_at_s + WORD_S and not taker.paused:
            seen.append(Seen(now_s, "interrupt"))
            reply_at_s = reply_over_s = held_at_s = float("inf")
            into_reply = False
            performer.reply_over()
        if reply_at_s <= now_s < reply_over_s and held_at_s == float("inf"):
            performer.reply_began()
        elif now_s >= reply_over_s and held_at_s == float("inf"):
            performer.reply_over()
    await detectors.close()
    await ends.close()
    return score(performer.done, seen)
