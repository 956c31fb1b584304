"""Rules for signs and abbreviations. Pure."""

import regex

from services.tts.normalizer.language import Language, Match
from services.tts.normalizer.rules import DASH, Rule, rule

_ACRONYM = regex.compile(r"\p{Lu}+")


def rules(language: Language) -> list[Rule]:
    words = language.words
    signs = {
        "&": "and", "+": "plus", "=": "equals", "≠": "unequal", "×": "times", "÷": "divided", "≤": "at_most", "≥": "at_least",
        "<=": "at_most", ">=": "at_least", "±": "plus_minus", "≈": "approximately", "√": "root", "§": "section", "©": "copyright",
        "@": "at", "⇒": "implies", "=>": "implies", "π": "pi", "∞": "infinity", "%": "percent", "‰": "per_mille", "−": "minus",
    }  # fmt: skip
    pattern = "|".join(regex.escape(one) for one in sorted(signs, key=len, reverse=True))
    abbreviations = "|".join(regex.escape(one) for one in sorted(language.abbreviations, key=len, reverse=True))
    days = "|".join(sorted(language.weekdays, key=len, reverse=True)) or "(?!)"

    def either(match: Match) -> str:
        first, second = match["a"], match["b"]
        if match[0] in language.units:
            return language.units[match[0]].many
        joined = {"or", "and"} & {first.lower(), second.lower()} or (
            _ACRONYM.fullmatch(first) and _ACRONYM.fullmatch(second)
        )
        between = " " if joined or len(first) == len(second) == 1 else f" {words['or']} "
        return f"{first}{between}{second}"

    def abbreviation(match: Match) -> str:
        """A full stop at the end of the text, or before a capital letter in it, also ends the sentence."""
        said = language.abbreviations[match["a"]]
        ends = match["a"].endswith(".") and not match.string[match.end() :].strip(" \"')\u201d\u00bb")
        return f"{said}." if ends else said

    def arrow(match: Match) -> str:
        listed = regex.search(r"\p{L}{2}\s*$", match.string[: match.start()])
        return f", {words['then']} " if listed else words["to"]

    return [
        rule(
            rf"\b(?P<a>{days})\.?{DASH}(?P<b>{days})\b(?:\.(?=\s))?",
            lambda m: f"{language.weekdays[m['a']]} {words['to']} {language.weekdays[m['b']]}",
        ),
        rule(
            rf"\b(?P<a>{days})(?:\.(?=\s)|(?<={language.date_words}\s\p{{L}}+)(?=\.\W*$))",
            lambda m: language.weekdays[m["a"]],
        ),
        rule(
            rf"\b(?P<m>{language.month_pattern})(?:(?<=\.)(?=\s\S)|(?<={language.date_words}\s\p{{L}}+\.?)(?=\W*$))",
            lambda m: (
                language.months[language.month(m["m"]) - 1]
                + ("." if m["m"].endswith(".") and m.end() == len(m.string) else "")
            ),
        ),
        rule(rf"(?<={language.full_weekdays})[-\u2013](?={language.full_weekdays})", lambda _: words["to"]),
        rule(rf"(?<![\p{{L}}\p{{N}}.])(?P<a>{abbreviations})(?!\p{{L}})", abbreviation),
        rule(r"(?<![\p{L}\p{N}/])(?P<a>\p{L}[\p{L}\p{M}'’]*)/(?P<b>\p{L}[\p{L}\p{M}'’]*)(?![/\p{L}\p{N}])", either),
        rule(r"\s*(?:\u2192|\u27a1\ufe0f?|-{1,2}>|\u2794|\u27f6)\s*", arrow),
        rule(r"²|(?<=\b\p{L})\^2", lambda _: words["squared"]),
        rule(r"³|(?<=\b\p{L})\^3", lambda _: words["cubed"]),
        rule(
            "[$€£¥₹¢]", lambda match: language.currencies[match[0]].noun.one if match[0] in language.currencies else ""
        ),
        rule(r"(?<=[\p{N}\p{L})])\^(?=[\p{N}\p{L}(])", lambda _: words["power"]),
        rule(
            r"~(?=\s?\d)",
            lambda m: (
                ""
                if regex.search(rf"\b{words['about']}\s$", m.string[: m.start()], regex.IGNORECASE)
                else words["about"]
            ),
        ),
        rule(r"(?<=[\p{N}\p{L})]\s)<(?=\s[\p{N}\p{L}(])|(?<=\d)<(?=\d)", lambda _: words["less"]),
        rule(r"(?<=[\p{N}\p{L})]\s)>(?=\s[\p{N}\p{L}(])|(?<=\d)>(?=\d)", lambda _: words["greater"]),
        rule(r"(?<=\s|^)[<>](?=\s?\d)", lambda m: words["less" if m[0] == "<" else "greater"]),
        rule(r"(?:#|№|\b[nN](?:o\.|\.?[°º]\.?)\s?)(?=\d)", lambda _: words["number"]),
        rule(r"(?<=\b[A-G])#", lambda _: words["sharp"]),
        rule(r"(?<!\w)#(?=\p{L})", lambda _: words["hashtag"]),
        rule(r"(?<=\b[A-Z])\+\+", lambda _: f"{words['plus']} {words['plus']}"),
        rule(r"[™®<>{}\\^|~]", lambda _: ""),
        rule(pattern, lambda m: words[signs[m[0]]]),
    ]
