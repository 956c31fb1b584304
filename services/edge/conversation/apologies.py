"""The apology: what the agent says when a turn has failed. Pure; `failed_reply` says it."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.protocol.session import SessionSettings

APOLOGIES = {
    "ar": "عذرًا، حدث خطأ ما. هل يمكنك إعادة ما قلته؟",
    "de": "Entschuldigung, da ist etwas schiefgegangen. Bitte sagen Sie das noch einmal.",
    "en": "Sorry, something went wrong. Please say that again.",
    "es": "Lo siento, algo ha fallado. Por favor, repítalo.",
    "fr": "Désolé, un problème est survenu. Pouvez-vous répéter, s'il vous plaît ?",
    "hi": "माफ़ कीजिए, कुछ गड़बड़ हो गई। कृपया फिर से कहिए।",
    "it": "Mi dispiace, qualcosa è andato storto. Può ripetere, per favore?",
    "ja": "申し訳ありません。問題が発生しました。もう一度お願いします。",
    "nl": "Sorry, er ging iets mis. Kunt u dat herhalen?",
    "pl": "Przepraszam, coś poszło nie tak. Proszę powtórzyć.",
    "pt": "Desculpe, algo correu mal. Pode repetir, por favor?",
    "ru": "Извините, что-то пошло не так. Повторите, пожалуйста.",
    "zh": "抱歉，出了点问题。请您再说一遍。",
}
"""By language."""
FAREWELLS = {
    "ar": "عذرًا، لا يمكنني المتابعة الآن. يرجى الاتصال لاحقًا. إلى اللقاء.",
    "de": "Leider geht es im Moment nicht weiter. Bitte rufen Sie später noch einmal an. Auf Wiederhören.",
    "en": "I am sorry, I cannot go on at the moment. Please call again later. Goodbye.",
    "es": "Lo siento, ahora no puedo continuar. Por favor, llame más tarde. Adiós.",
    "fr": "Désolé, je ne peux pas continuer pour le moment. Veuillez rappeler plus tard. Au revoir.",
    "hi": "माफ़ कीजिए, अभी बात आगे नहीं हो सकती। कृपया बाद में फ़ोन कीजिए। नमस्ते।",
    "it": "Mi dispiace, al momento non posso continuare. La prego di richiamare più tardi. Arrivederci.",
    "ja": "申し訳ありませんが、ただいまお話を続けられません。後ほどおかけ直しください。失礼いたします。",
    "nl": "Sorry, ik kan op dit moment niet verder. Belt u later nog eens. Tot ziens.",
    "pl": "Przepraszam, nie mogę teraz kontynuować. Proszę zadzwonić później. Do widzenia.",
    "pt": "Desculpe, não posso continuar neste momento. Por favor, ligue mais tarde. Adeus.",
    "ru": "Извините, сейчас я не могу продолжать. Пожалуйста, перезвоните позже. До свидания.",
    "zh": "抱歉，现在无法继续通话。请稍后再打来。再见。",
}
"""What it says before it hangs up, where the agent has no goodbye."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A sentence in a voice: s16le mono."""

    rate_hz: int
    pcm: bytes


FindRecording = Callable[[SessionSettings, str], Recording | None]
"""Takes the settings of a session and a text; None: nobody has spoken it in that voice."""


def apology(settings: SessionSettings) -> str:
    """What the agent says when a turn has failed."""
    language = _primary(settings.language)
    own = {_primary(phrase.language): phrase.text for phrase in settings.failure_texts}
    return settings.failure_text or own.get(language) or APOLOGIES.get(language, APOLOGIES["en"])


def farewell(settings: SessionSettings) -> str:
    """What the agent says before it hangs up because of failures."""
    return settings.goodbye or FAREWELLS.get(_primary(settings.language), FAREWELLS["en"])


def _primary(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]
