"""Run an llm worker: `python -m services.llm`."""

import sys

from services.llm.engine import ENGINES
from services.llm.stage import LlmStage
from shared.engines.registry import create_engine
from shared.settings import Settings
from shared.worker.service import run_stage


def build(settings: Settings) -> LlmStage:
    model = create_engine("llm", settings.llm_engine, ENGINES, settings)
    return LlmStage(model, settings.llm_engine, settings.first_clause_words, settings.reply_tokens)


def main() -> int:
    return run_stage("llm", build)


if __name__ == "__main__":
    sys.exit(main())
