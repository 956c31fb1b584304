"""Run a tts worker: `python -m services.tts`."""

import sys

from services.tts.engine import ENGINES
from services.tts.stage import TtsStage
from shared.engines.registry import create_engine
from shared.settings import Settings
from shared.worker.service import run_stage


def build(settings: Settings) -> TtsStage:
    synthesizer = create_engine("tts", settings.tts_engine, ENGINES, settings)
    return TtsStage(synthesizer, settings.tts_engine, settings.reply_ahead_s)


def main() -> int:
    return run_stage("tts", build)


if __name__ == "__main__":
    sys.exit(main())
