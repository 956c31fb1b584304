"""`parley forget`: deletes everything that is stored about a session, and checks that nothing is left."""

import asyncio
import json
import sys
from dataclasses import asdict

from pydantic import SecretStr

from deploy.local.control import NotRunning, broker_url
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.forget import delete_session, find_session
from shared.recordings import BadRecording, delete_recording, recording_path, recordings_folder
from shared.settings import Settings
from shared.worker.lifecycle import first_message

SETTLE_S = 1.0
"""What is on its way to the broker, and the answers of workers that still know the session, arrive within this time."""
LABELS = {
    "keys": "keys of the session",
    "jobs": "jobs in queues",
    "dead_letters": "dead letters",
    "turn_records": "turn records",
    "recordings": "recordings",
}


def run_forget(settings: Settings, session: str, *, as_json: bool) -> int:
    """Delete and report. Returns the exit code: 0 nothing is left, 1 otherwise or without a broker, 2 this is not an id."""
    try:
        recording_path(recordings_folder(settings), session)
    except BadRecording as error:
        print(error, file=sys.stderr)
        return 2
    failure = ""
    try:
        deleted, left = asyncio.run(forget(settings, session))
    except* (NotRunning, BrokerGone, BrokerRefused, OSError) as group:
        failure = first_message(group)
    if failure:
        print(f"not everything was deleted: {failure}", file=sys.stderr)
        return 1
    remains = sum(left.values())
    if as_json:
        print(json.dumps({"session": session, "deleted": deleted, "left": left}, indent=2))
        return int(remains > 0)
    for name, label in LABELS.items():
        print(f"{deleted[name]:6d}  {label} deleted" + (f", {left[name]} LEFT" if left[name] else ""))
    print(
        f"{remains} of it are left: the session still goes on. End it, and run this again."
        if remains
        else "Nothing is left in the broker, and no recording. Logs and traces are not touched: see docs/privacy.md."
    )
    return int(remains > 0)


async def forget(settings: Settings, session: str) -> tuple[dict[str, int], dict[str, int]]:
    """Delete everything about a session. Returns how much was deleted, and how much there is afterwards.

    Raises:
        NotRunning: the broker is not known.
        BrokerGone, BrokerRefused: the broker failed; possibly in a group.
        OSError: a recording cannot be deleted.
    """
    folder = recordings_folder(settings)
    known = settings.model_copy(update={"redis_url": SecretStr(await broker_url(settings))})
    async with Bus.connect(known, "forget") as bus:
        deleted = {**asdict(await delete_session(bus, session)), "recordings": int(delete_recording(folder, session))}
        await asyncio.sleep(SETTLE_S)
        # Once more, for what was on its way when the first round looked.
        again = await delete_session(bus, session)
        delete_recording(folder, session)
        deleted = {name: count + asdict(again).get(name, 0) for name, count in deleted.items()}
        await asyncio.sleep(SETTLE_S)
        left = await find_session(bus, session)
    return deleted, {**asdict(left), "recordings": int(recording_path(folder, session).exists())}
