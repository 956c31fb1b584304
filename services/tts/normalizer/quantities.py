"""Rules for amounts, units, fractions, ordinals, ranges and other numbers. Pure."""

import regex

from services.tts.normalizer.language import Language, Match, Noun
from services.tts.normalizer.rules import DASH, LEFT, RIGHT, Rule, rule

_SIGNS = "-\u2212"
_FRACTIONS = {
    "½": (1, 2),
    "⅓": (1, 3),
    "⅔": (2, 3),
    "¼": (1, 4),
    "¾": (3, 4),
    "⅕": (1, 5),
    "⅛": (1, 8),
    "⅜": (3, 8),
    "⅝": (5, 8),
    "⅞": (7, 8),
}
_HIGHEST_BOTTOM = 20
_OUT_OF = 10
"""A fraction of ten is a mark: 8/10."""


def _any_of(written: object) -> str:
    return "|".join(regex.escape(one) for one in sorted(written, key=len, reverse=True))  # type: ignore[call-overload]


def rules(language: Language) -> list[Rule]:
    numbers, words = language.numbers, language.words
    number = numbers.pattern
    sign = rf"(?P<sign>(?<![\p{{L}}\p{{N}})])[{_SIGNS}])?"
    currency, unit, size = map(_any_of, (language.currencies, language.units, language.magnitudes))
    letter_size = rf"(?:(?P<size>{size}){RIGHT}|\s(?P<size>{_any_of(one for one in language.magnitudes if len(one) > 2)}){RIGHT})?"
    cardinal_left = rf"{LEFT}{sign}"

    def attributive(match: Match) -> bool:
        return language.attributive(match.string[: match.start()], match.string[match.end() :])

    def money(match: Match) -> str:
        found = language.currencies[match["c"]]
        if match["size"] and attributive(match):
            said = f"{language.magnitude(match['n'], match['size'])} {found.noun.one}"
        elif match["size"]:
            said = language.large_amount(match["n"], match["size"], found)
        elif attributive(match):
            said = f"{numbers.words(match['n'])} {found.noun.one}"
        else:
            said = language.amount(match["n"], found)
        per = f" {words['per']} {language.units.get(match['per'], Noun(match['per'], '')).one}" if match["per"] else ""
        return numbers.signed(match["sign"] or "", said) + per

    def money_range(match: Match) -> str:
        found = language.currencies[match["c"]]
        last = (
            language.large_amount(match["b"], match["size"], found)
            if match["size"]
            else language.amount(match["b"], found)
        )
        return f"{numbers.words(match['a'])} {words['to']} {last}"

    def measured(match: Match) -> str:
        noun = language.units[match["u"]]
        alone = f"{numbers.words(match['n'], 'before_noun')} {noun.one}"
        return numbers.signed(
            match["sign"] or "", alone if attributive(match) else language.counted(match["n"], noun)
        ) + stop(match)

    def measured_range(match: Match) -> str:
        last = language.counted(match["b"], language.units[match["u"]])
        return f"{numbers.words(match['a'])} {words['to']} {last}{stop(match)}"

    def stop(match: Match) -> str:
        """Return the full stop of an abbreviated unit at the end of a sentence."""
        return "." if match["u"].endswith(".") and not match.string[match.end() :].strip() else ""

    def area(match: Match) -> str:
        last = language.counted(match["b"], language.units[match["u"]]) if match["u"] else numbers.words(match["b"])
        return f"{numbers.words(match['n'])} {words['by']} {last}"

    def fraction(match: Match) -> str | None:
        top, bottom = int(match["a"]), int(match["b"])
        if (top, bottom) == (24, 7) or top == bottom:
            return f"{numbers.integer(top)} {numbers.integer(bottom)}"
        usual = 0 < top < bottom <= _HIGHEST_BOTTOM and bottom != _OUT_OF
        noun = language.units[match["u"]].one if match["u"] else match["noun"] or ""
        return language.fraction(top, bottom, noun) if usual and (top < bottom or not noun) else out_of(match)

    def out_of(match: Match) -> str:
        return f"{numbers.words(match['a'])} {words['out_of']} {numbers.words(match['b'])}"

    def sign_fraction(match: Match) -> str:
        top, bottom = _FRACTIONS[match["f"]]
        if match["n"]:
            return f"{language.mixed(match['n'], top, bottom)} {match['noun'] or ''}".rstrip()
        return language.fraction(top, bottom, match["noun"] or "")

    def mixed(match: Match) -> str:
        return language.mixed(match["n"], int(match["a"]), int(match["b"]))

    def spread(match: Match) -> str:
        return language.range(_in_range(match["a"]), _in_range(match["b"]), match.string[: match.start()])

    def _in_range(written: str) -> str:
        return language.year(int(written)) if regex.fullmatch(r"(?:1[5-9]|20)\d\d", written) else numbers.words(written)

    def year(match: Match) -> str:
        return language.year(int(match["n"]))

    named = regex.compile(rf"\b{language.named}\W+$")

    def digit_groups(match: Match) -> str:
        return ", ".join(numbers.digits(group) for group in match[0].split("-"))

    def large(match: Match) -> str | None:
        if named.search(match.string[: match.start()]):
            return None  # "room 12B"
        return numbers.signed(match["sign"] or "", language.magnitude(match["n"], match["size"]))

    def plain(match: Match) -> str:
        return numbers.signed(match["sign"] or "", language.plain(match["n"], match.string[match.end() :]))

    noun = rf"(?:\s(?P<noun>{language.measures}))?"
    return [
        rule(
            rf"{LEFT}(?P<c>{currency})\s?(?P<a>{number}){DASH}(?:(?P=c)\s?)?(?P<b>{number}){letter_size}{RIGHT}",
            money_range,
        ),
        rule(rf"{LEFT}(?P<a>{number}){DASH}(?P<b>{number}){letter_size}\s?(?P<c>{currency}){RIGHT}", money_range),
        rule(
            rf"(?<![\p{{L}}\p{{N}}]){sign}(?P<c>{currency})\s?(?P<n>{number}){letter_size}(?:/(?P<per>\p{{L}}+))?{RIGHT}",
            money,
        ),
        rule(rf"{cardinal_left}(?P<n>{number}){letter_size}\s?(?P<c>{currency})(?:/(?P<per>\p{{L}}+))?{RIGHT}", money),
        rule(rf"{LEFT}(?P<n>\d+)\s(?P<a>\d)/(?P<b>\d{{1,2}}){RIGHT}(?!/)", mixed),
        rule(rf"{LEFT}(?P<a>\d{{1,3}})/(?P<b>\d{{1,3}})(?:\s?(?P<u>{unit})(?=[\s.,]|$)|{noun}){RIGHT}(?!/)", fraction),
        rule(rf"{LEFT}(?P<a>{number})/(?P<b>\d+){RIGHT}(?!/)", out_of),
        rule(rf"(?:{LEFT}(?P<n>\d+)\s?)?(?P<f>[{''.join(_FRACTIONS)}]){noun}", sign_fraction),
        rule(rf"{LEFT}\d+(?:-\d+){{2,}}{RIGHT}", digit_groups),
        *(rule(pattern, say) for pattern, say in language.more_rules()),
        rule(language.ordinal_pattern, language.ordinal),
        rule(rf"{LEFT}{sign}(?P<a>{number}){DASH}(?P<b>{number})\s?(?P<u>{unit}){RIGHT}", measured_range),
        rule(
            rf"{LEFT}{sign}(?P<n>{number})[\s\u00a0\u202f-]?(?P<u>{unit}){RIGHT}(?!\.\p{{L}})",
            measured,
        ),
        rule(rf"{LEFT}(?P<n>{number})\s?[x\u00d7]\s?(?P<b>{number})(?:\s?(?P<u>{unit}))?{RIGHT}(?!\s?=)", area),
        rule(rf"{cardinal_left}(?P<n>{number})\s?(?P<size>{size}){RIGHT}{language.not_magnitude}", large),
        rule(
            rf"{LEFT}(?P<a>\d+)-(?P<b>\p{{L}}+)-(?P<c>\p{{L}}+)", lambda m: f"{numbers.words(m['a'])}-{m['b']}-{m['c']}"
        ),
        rule(
            rf"(?<=[\d\s(^]|^)(?<![\p{{L}}.,/:-])(?P<a>{number})\s[-\u2212]\s(?P<b>{number})(?=\s?=)",
            lambda m: f"{numbers.words(m['a'])} {words['minus']} {numbers.words(m['b'])}",
        ),
        rule(rf"{LEFT}(?P<a>{number}){DASH}(?P<b>{number}){RIGHT}(?!-)", spread),
        rule(
            rf"{LEFT}(?P<a>\d{{1,3}}):(?P<b>\d{{1,3}}){RIGHT}(?!:)",
            lambda m: f"{numbers.words(m['a'])} {words['ratio']} {numbers.words(m['b'])}",
        ),
        rule(
            rf"(?<=\b{language.year_after}\s)(?P<n>1[1-9]\d\d|20\d\d|21\d\d){RIGHT}(?![.,]\d)(?!\s{language.counted_things})",
            year,
        ),
        rule(rf"{LEFT}(?P<n>19\d\d|20[0-4]\d){RIGHT}(?![.,]\d)(?!\s{language.counted_things})", year),
        rule(r"(?<=\p{L})[-\u2013](?P<sign>)(?P<n>\d+)(?!\p{L})", plain),
        rule(rf"{cardinal_left}(?P<n>{number})", plain),
        rule(rf"(?P<sign>)(?P<n>{number})", plain),
    ]
