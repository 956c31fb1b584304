"""What the words at a pause tell: of finished turns, of unfinished ones, and of those that could be either."""

import pytest

from services.vad.endpointing import phrases
from services.vad.endpointing.phrases import Evidence, evidence, phrases_of

UNFINISHED = {
    "en": [
        ("I would like to book a table for", phrases.FUNCTION_WORD),
        ("I would like to book a table for,", phrases.FUNCTION_WORD),
        ("We stayed at the", phrases.FUNCTION_WORD),
        ("I'd love to come, but", phrases.FUNCTION_WORD),
        ("Is this Mr.", phrases.FUNCTION_WORD),
        ("What I would like to know is", phrases.FUNCTION_WORD),
        ("My brother and I", phrases.FUNCTION_WORD),
        ("I want to go to", phrases.FUNCTION_WORD),
        ("That is what I", phrases.FUNCTION_WORD),
        ("We went there after", phrases.RARE_END),
        ("Could you please?", phrases.OPENING),
        ("Um.", phrases.HESITATION),
        ("So I was thinking, uh", phrases.HESITATION),
        ("My name is", phrases.OPENING),
        ("Good morning. Could you tell me", phrases.OPENING),
        ("Well.", phrases.OPENING),
        ("My number is 555.", phrases.NUMBER),
        ("My phone number is five five five", phrases.NUMBER),
        ("You can call me at 0170,", phrases.NUMBER),
        ("It's oh seven seven.", phrases.NUMBER),
        ("My zip code is 94", phrases.NUMBER),
        ("My number is 555-123", phrases.ALMOST_NUMBER),
        ("It's all 7-7.", phrases.NUMBER),
        ("The order number is A B.", phrases.NUMBER),
        ("I was born on the 4th.", phrases.OPEN_END),
        ("I went there and...", phrases.FUNCTION_WORD),
        ("I went home...", phrases.BREAKS_OFF),
        ("I went home,", phrases.BREAKS_OFF),
        ("If it rains tomorrow.", phrases.SUBORDINATE),
        ("We need milk, bread, butter", phrases.LIST),
        ("We need milk, bread.", phrases.SHORT_LIST),
        ("Please turn it on.", phrases.OPEN_END),
        ("Do you have the same shoes in?", phrases.OPEN_END),
    ],
    "de": [
        ("Ich hätte gern einen Tisch für", phrases.FUNCTION_WORD),
        ("Das ist, weil", phrases.FUNCTION_WORD),
        ("Äh", phrases.HESITATION),
        ("Mein Name ist", phrases.OPENING),
        ("Meine Nummer ist null eins sieben", phrases.NUMBER),
        ("Wenn es morgen regnet.", phrases.SUBORDINATE),
        ("Wir brauchen Milch, Brot, Butter", phrases.LIST),
    ],
    "es": [
        ("Quisiera reservar una mesa para", phrases.FUNCTION_WORD),
        ("Me llamo", phrases.OPENING),
        ("Mi número es seis uno dos", phrases.NUMBER),
        ("Si llueve mañana.", phrases.SUBORDINATE),
        ("Quiero pan, leche, huevos", phrases.LIST),
    ],
    "fr": [
        ("Je voudrais réserver une table pour", phrases.FUNCTION_WORD),
        ("Je m'appelle", phrases.OPENING),
        ("Euh...", phrases.HESITATION),
        ("Mon numéro est zéro six douze", phrases.UNMARKED),
        ("Mon numéro est zéro six", phrases.NUMBER),
        ("S'il pleut parce que", phrases.FUNCTION_WORD),
    ],
    "hi": [
        ("मुझे एक टेबल बुक करनी है क्योंकि", phrases.FUNCTION_WORD),
        ("मैं दिल्ली से", phrases.FUNCTION_WORD),
        ("मेरा नाम", phrases.OPENING),
        ("अगर कल बारिश होगी", phrases.SUBORDINATE),
    ],
}
FINISHED = {
    "en": [
        ("Yes.", phrases.WHOLE),
        ("Yes, please.", phrases.WHOLE),
        ("Stop", phrases.WHOLE),
        ("I'll take that one. Thank you.", phrases.WHOLE),
        ("I'd like the bill, please.", phrases.WHOLE),
        ("What time is it?", phrases.QUESTION),
        ("Where are you from?", phrases.QUESTION),
        ("What are you looking for?", phrases.QUESTION),
        ("I don't know what it is.", phrases.SENTENCE),
        ("If it rains tomorrow, we will stay at home.", phrases.SENTENCE),
        ("When does it open?", phrases.QUESTION),
        ("My phone number is 555-0123.", phrases.WHOLE_NUMBER),
        ("My number is five five five oh one two three", phrases.WHOLE_NUMBER),
        ("My zip code is 94105.", phrases.WHOLE_NUMBER),
        ("It costs 34 dollars.", phrases.SENTENCE),
        ("I need two.", phrases.SENTENCE),
        ("No, I don't think so.", phrases.SENTENCE),
        ("The train leaves at 10. 45.", phrases.SENTENCE),
        ("Which house do you live in?", phrases.QUESTION),
        ("I would like a coffee, a sandwich and a bottle of water.", phrases.SENTENCE),
        ("I speak it very well.", phrases.SENTENCE),
        ("tell me a story", phrases.UNMARKED),
    ],
    "de": [
        ("Ja, bitte.", phrases.WHOLE),
        ("Wo bist du?", phrases.QUESTION),
        ("Ich weiß nicht, wo das ist.", phrases.SENTENCE),
        ("Ich hätte gern einen Tisch für vier Personen.", phrases.SENTENCE),
    ],
    "es": [("Sí.", phrases.WHOLE), ("¿Dónde está el museo?", phrases.QUESTION), ("Quiero un café.", phrases.SENTENCE)],
    "fr": [
        ("Oui, merci.", phrases.WHOLE),
        ("Où est la gare ?", phrases.QUESTION),
        ("Je prends le train.", phrases.SENTENCE),
    ],
    "hi": [("हाँ", phrases.WHOLE), ("मुझे एक टेबल चाहिए।", phrases.SENTENCE), ("यह क्या है?", phrases.QUESTION)],
}


def cases(table: dict[str, list[tuple[str, Evidence]]]) -> list[tuple[str, str, Evidence]]:
    return [(language, text, expected) for language, rows in table.items() for text, expected in rows]


@pytest.mark.parametrize(("language", "text", "expected"), cases(UNFINISHED) + cases(FINISHED))
def test_the_end_of_the_words_is_recognised(language: str, text: str, expected: Evidence) -> None:
    assert evidence(text, language) == expected


def test_what_is_unfinished_speaks_against_the_end_and_what_is_finished_does_not() -> None:
    assert all(found.log_odds <= 0 for _, _, found in cases(UNFINISHED))
    assert all(found.log_odds >= 0 for _, _, found in cases(FINISHED))


def test_without_words_or_without_a_table_there_is_no_opinion() -> None:
    assert evidence("", "en") is None
    assert evidence(" … ", "en") is None
    assert evidence("ik heb een", "nl") is None
    assert evidence("I have a", "") is None


def test_regions_share_the_words_of_their_language() -> None:
    assert phrases_of("en-GB") is phrases_of("en")
    assert evidence("Ich hätte gern ein", "de_AT") == phrases.FUNCTION_WORD


@pytest.mark.parametrize("language", phrases.LANGUAGES)
def test_the_tables_are_consistent(language: str) -> None:
    known = phrases_of(language)
    assert known is not None
    assert not known.open & known.rarely
    assert not known.open & known.sometimes
    assert not known.opening & known.whole
    assert not {(word,) for word in known.fillers} & known.whole
    every = (*known.opening, *known.whole, *known.subordinate, *known.clefts, *known.numbers)
    assert all(1 <= len(phrase) <= 6 for phrase in every)
