"""A reply that has failed: it ends with the apology, where the person is to hear of it. Pure.

The audio was made beforehand (`gateway.apology_voice`), because the voice may be what has failed. Where there is none, a tone
says that something is wrong.
"""

from services.edge.conversation.apologies import Recording, apology, farewell
from services.edge.conversation.effects import Count, Tally
from services.edge.conversation.inputs import Leave
from services.edge.conversation.reply import Reply, ReplyState
from services.edge.conversation.state import State
from shared.audio.tone import TONE_HZ, falling_tone

TONE = Recording(TONE_HZ, falling_tone())


def end(state: State, reply: Reply, why: str) -> None:
    """No more of the reply arrives. `why`: one of `reasons.FAILURES`."""
    reply.fail(why)
    if state.speaks_failures and not is_made_again(reply):
        _apologise(state, reply)


def is_made_again(reply: Reply) -> bool:
    """It was prepared before its turn was over, and nothing of it was sent: where it fails, another is asked for."""
    return reply.state is ReplyState.PREPARING or (reply.state is ReplyState.WAITING and reply.speculated)


def _apologise(state: State, reply: Reply) -> None:
    settings, text = state.settings, apology(state.settings)
    if state.fails_too_often or state.idle.is_leaving:
        text, reply.interruptible = farewell(settings), False
        state.do(state.idle.close_when_quiet(Leave(1011, "too many turns have failed")))
    if not state.is_spoken(reply.turn):
        reply.apologise(text)
    elif (recording := state.find_recording(settings, text)) is not None:
        state.effects.append(Count(Tally.APOLOGY))
        reply.apologise(text, recording.pcm, recording.rate_hz)
    else:
        state.effects.append(Count(Tally.TONE))
        reply.apologise(text, TONE.pcm, TONE.rate_hz, in_words=False)
