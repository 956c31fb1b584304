"""The event log of the monitor: texts in engine errors are masked, too."""

from services.edge.http.monitor.event_log import frame_fields
from shared.protocol.frames import StageFailed, TranscriptFinal
from shared.protocol.session import ReplyOptions


def test_the_text_of_an_error_is_shown_only_with_content() -> None:
    failed = StageFailed("llm", 1, 0, "ValueError: cannot answer 'my number is 42'")
    assert frame_fields(failed, content=False) == {
        "stage": "llm",
        "message": "ValueError",
        "code": "stage_failed",
    }
    assert frame_fields(failed, content=True)["message"] == failed.message
    given_up = StageFailed("tts", 1, 0, "its workers ended 6 times in the middle of it")
    assert frame_fields(given_up, content=False)["message"] == given_up.message


def test_texts_are_masked() -> None:
    said = TranscriptFinal("s", 1, 0, "my number is 42", ReplyOptions())
    assert frame_fields(said, content=False)["text"] == "15 characters"
    assert frame_fields(said, content=True)["text"] == "my number is 42"
