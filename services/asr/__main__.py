"""Run an asr worker: `python -m services.asr`."""

import sys

from services.asr.engine import ENGINES
from services.asr.stage import AsrStage
from shared.engines.registry import create_engine
from shared.settings import Settings
from shared.worker.service import run_stage


def build(settings: Settings) -> AsrStage:
    recognizer = create_engine("asr", settings.asr_engine, ENGINES, settings)
    return AsrStage(recognizer, settings.asr_engine)


def main() -> int:
    return run_stage("asr", build)


if __name__ == "__main__":
    sys.exit(main())
