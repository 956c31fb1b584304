"""Rules for dates and times of day. Pure."""

from collections.abc import Callable

from services.tts.normalizer.language import Language, Match, Say
from services.tts.normalizer.rules import DASH, LEFT, RIGHT, Rule, rule

_MONTHS, _DAYS, _HOURS, _MINUTES = 12, 31, 24, 60
_BEFORE = 20
"""Characters before a date that may decide about its form ("am 3. Oktober")."""


def rules(language: Language) -> list[Rule]:
    numbers = language.numbers

    def before(match: Match) -> str:
        return str(match.string)[max(0, match.start() - _BEFORE) : match.start()]

    def full(match: Match) -> str | None:
        first, second = int(match["a"]), int(match["b"])
        year = int(match["y"]) if match["y"] else None
        day, month = (second, first) if language.month_first else (first, second)
        if month > _MONTHS:
            day, month = month, day
        return language.date(day, month, year, before(match)) if 0 < month <= _MONTHS and 0 < day <= _DAYS else None

    def iso(match: Match) -> str | None:
        day, month = int(match["d"]), int(match["m"])
        return (
            language.date(day, month, int(match["y"]), before(match))
            if 0 < month <= _MONTHS and 0 < day <= _DAYS
            else None
        )

    def named(build: Callable[[int, int, int | None, str], str]) -> Say:
        def say(match: Match) -> str | None:
            day, month = int(match["d"]), language.month(match["m"])
            if not 0 < day <= _DAYS:
                return None
            year = int(match["y"]) if match["y"] else None
            if not match["to"]:
                return build(day, month, year, before(match))
            ends = build(day, month, None, before(match)), language.day(int(match["to"]), before(match))
            return f"{ends[0]} {language.words['to']} {ends[1]}"

        return say

    def clock(match: Match) -> str | None:
        hours, minutes = int(match["h"]), int(match["m"])
        if hours > _HOURS or minutes >= _MINUTES:
            return None
        return language.time(hours, minutes, match["after"] or "")

    def hour(match: Match) -> str | None:
        hours = int(match["h"])
        return language.time(hours, None, match["after"]) if hours <= _HOURS else None

    def times(match: Match) -> str | None:
        """Say a range of times. Hours alone are times only where something says so: "9-17 Uhr"."""
        if not (match["m1"] or match["m2"] or match["after2"]) or max(int(match["h1"]), int(match["h2"])) > _HOURS:
            return None
        first, last = (int(match[f"m{end}"]) if match[f"m{end}"] else None for end in (1, 2))
        begin = numbers.integer(int(match["h1"]))
        if match["after1"] or match["m1"]:
            begin = language.time(int(match["h1"]), first, match["after1"] or "")
        return f"{begin} {language.words['to']} {language.time(int(match['h2']), last, match['after2'] or '')}"

    month, dashed = language.month_pattern, DASH
    first, last = (
        rf"(?P<h{end}>\d{{1,2}})(?:{language.clock_mark}(?P<m{end}>[0-5]\d))?(?P<after{end}>{language.after_time}|{language.hour_pattern})?"
        for end in (1, 2)
    )
    year = r"(?P<y>(?:1[0-9]|20|21)\d\d)(?!\d)"
    return [
        rule(rf"{LEFT}(?P<y>\d{{4}})-(?P<m>\d\d)-(?P<d>\d\d){RIGHT}", iso),
        rule(rf"{LEFT}(?P<a>\d{{1,2}})(?P<s>[/.-])(?P<b>\d{{1,2}})(?P=s)(?P<y>\d{{4}}|\d\d){RIGHT}(?![.-]\d)", full),
        rule(rf"(?<=\b{language.date_after}\s)(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})(?P<y>){RIGHT}(?!/\d)", full),
        rule(rf"{LEFT}(?P<a>\d{{1,2}})\.(?P<b>\d{{1,2}})\.(?P<y>){RIGHT}(?!\d)", full)
        if language.dotted_dates
        else rule("(?!)", full),
        rule(
            rf"{LEFT}(?P<d>\d{{1,2}})(?:{language.day_mark})?(?:{dashed}(?P<to>\d{{1,2}})(?:{language.day_mark})?)?\s(?:{language.of}\s)?"
            rf"(?P<m>{month})(?:,?\s(?:{language.of_year}\s)?{year})?{RIGHT}",
            named(language.day_first),
        ),
        rule(
            rf"\b(?P<m>{month})\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?:{dashed}(?P<to>\d{{1,2}})(?:st|nd|rd|th)?)?(?:,?\s{year})?{RIGHT}(?![.:]\d)",
            named(language.date),
        ),
        rule(rf"{LEFT}{first}{dashed}{last}{RIGHT}(?!:\d)", times),
        rule(
            rf"{LEFT}(?P<h>\d{{1,2}})(?P<s>{language.clock_mark})(?P<m>\d\d)(?P<after>{language.after_time})?{RIGHT}(?!:\d)",
            clock,
        ),
        rule(rf"{LEFT}(?P<h>\d{{1,2}})(?P<after>{language.hour_pattern}){RIGHT}", hour),
    ]
