"""Run a vad worker: `python -m services.vad`."""

import sys

from services.vad.endpointing.engine import ENGINES as ENDPOINTING_ENGINES
from services.vad.engine import ENGINES
from services.vad.stage import VadStage
from shared.engines.registry import create_engine
from shared.settings import Settings
from shared.worker.service import run_stage


def build(settings: Settings) -> VadStage:
    detector = create_engine("vad", settings.vad_engine, ENGINES, settings)
    turn_detector = create_engine("endpoint", settings.endpoint_engine, ENDPOINTING_ENGINES, settings)
    return VadStage(detector, turn_detector, settings.vad_slots, settings.vad_engine, settings.endpoint_engine)


def main() -> int:
    return run_stage("vad", build)


if __name__ == "__main__":
    sys.exit(main())
