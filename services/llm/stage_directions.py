"""Stage directions in a reply, such as "*smiles*" and "(laughs softly)", by language. Pure.

A verb from the list has to come first, where a sentence or an interjection ends. So emphasis ("he *laughs* at that") and
asides ("(on Mondays)") stay.
"""

_VERBS = {
    "en": r"smil(?:es|ing)|laugh(?:s|ing)|chuckl(?:es|ing)|giggl(?:es|ing)|grin(?:s|ning)|sigh(?:s|ing)|nod(?:s|ding)"
    r"|wink(?:s|ing)|shrug(?:s|ging)|gasp(?:s|ing)|cough(?:s|ing)|sob(?:s|bing)|yawn(?:s|ing)|blush(?:es|ing)|bow(?:s|ing)"
    r"|whisper(?:s|ing)|paus(?:es|ing)|beam(?:s|ing)|wav(?:es|ing)|frown(?:s|ing)|smirk(?:s|ing)|sniff(?:s|les|ing)"
    r"|clear(?:s|ing) (?:\w+ )?throat|tak(?:es|ing) a (?:deep )?breath|tilts|leans|raises|rolls \w+ eyes",
    "de": r"lächel(?:t|nd)|lach(?:t|end)|kicher(?:t|nd)|seufz(?:t|end)|nick(?:t|end)|grins(?:t|end)|zwinker(?:t|nd)"
    r"|räuspert sich|zuckt|gähnt|hustet|flüstert",
    "es": r"sonr(?:íe|iendo)|(?:se )?r(?:íe|iendo)|suspira(?:ndo)?|asiente|guiña|bosteza|tose|susurra|se encoge",
    "fr": r"(?:en )?sour(?:it|iant)|(?:en )?r(?:it|iant)|rigole|(?:en )?soupir(?:e|ant)|hoche|acquiesce|bâille|tousse|chuchote",
    "hi": r"मुस्कुरा(?:ता|ती|ते|कर)|ह[ँं]स(?:ता|ती|ते|कर)",
}
_BEFORE = (
    r"(?:^|[\n.!?…,;:—)>\"”।])\s*|\b(?:oh|ah|aw|well|hm+|ha|haha|hehe|so|yes|no|sure|okay|ok|ja|nein|ach|sí|oui|non) "
)
_AFTER_VERB = r"(?: \w+ly| a (?:bit|little)| (?:him|her|my|it)self| sich| हुए| हैं| है)?"


def stage_directions(language: str) -> str:
    """Return a regular expression (of the library `regex`) of a direction with the marks around it.

    `language`: a primary subtag. English ones are found in every language: models write them there, too.
    """
    verbs = "|".join(_VERBS[one] for one in dict.fromkeys(("en", language)) if one in _VERBS)
    direction = rf"(?:\w+ly )?(?:{verbs})"
    return (
        rf"(?i:(?<={_BEFORE})([*_]){direction}(?![^\W_])[^*_\n]{{0,80}}\1(?![*\w])"
        rf"|[(\[]{direction}{_AFTER_VERB}\.?[)\]](?=[^(]))"
    )
