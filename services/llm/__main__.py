"""Run an llm worker: `python -m services.llm`."""

import sys
from typing import Any

from services.llm.engine import ENGINES
from services.llm.stage import LlmStage
from services.llm.summaries import Summaries
from shared.engines.registry import create_engine
from shared.settings import Settings
from shared.worker.service import run_stage


def build(settings: Settings) -> LlmStage:
    model = create_engine("llm", settings.llm_engine, ENGINES, settings)
    summaries = Summaries(_summary_model(settings, model), settings.llm_engine) if settings.summaries else None
    return LlmStage(model, settings.llm_engine, settings.first_clause_words, settings.reply_tokens, summaries)


def _summary_model(settings: Settings, model: Any) -> Any:
    if settings.summary_model in ("", settings.llm_model):
        return model
    return create_engine(
        "llm", settings.llm_engine, ENGINES, settings.model_copy(update={"llm_model": settings.summary_model})
    )


def main() -> int:
    return run_stage("llm", build)


if __name__ == "__main__":
    sys.exit(main())
