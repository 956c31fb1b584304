"""Callers who come, talk for some seconds and leave: half of them hang up, half vanish without a close frame."""

import asyncio
import random
from collections import Counter

from tests.support.caller import calling

LONGEST_TALK_S = 20.0
ANSWER_S = 15.0
"""A turn that is not answered within this counts as unanswered."""


async def keep_calling(url: str, speech: bytes, chance: random.Random, counts: Counter[str]) -> None:
    """Call again and again, until cancelled."""
    while True:
        try:
            await _call(url, speech, chance, counts)
        except* (OSError, ValueError) as group:  # refused, or lost
            counts[f"lost: {group.exceptions[0]}"] += 1
        await asyncio.sleep(chance.uniform(0, 1))


async def _call(url: str, speech: bytes, chance: random.Random, counts: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + chance.uniform(2, LONGEST_TALK_S)
    async with calling(url) as caller:
        counts["sessions"] += 1
        for turn in range(1, 1_000):
            if chance.random() < 0.5:
                await caller.send("text_input", text="go on")
            else:
                await caller.speak(speech, silence_s=0.8)
            if chance.random() < 0.2:
                counts["left in a turn"] += 1
                break
            try:
                await caller.until("reply_done", ANSWER_S, turn=turn)
                counts["turns"] += 1
            except AssertionError:
                counts["unanswered"] += 1
                break
            if loop.time() > end_s:
                break
            await asyncio.sleep(chance.uniform(0, 1))
        if chance.random() < 0.5:
            counts["vanished"] += 1
            caller.lose_line()
