"""What the rules need to know about a language: its words for signs, units and months, and how it says dates and amounts. Pure."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import regex

from services.tts.normalizer.numbers import NumberWords

Match: TypeAlias = "regex.Match[str]"
Say = Callable[[Match], str | None]
"""Returns the words of a match; None: the match is something else."""


class Noun(NamedTuple):
    """A unit or a currency."""

    one: str
    many: str
    feminine: bool = False


class Currency(NamedTuple):
    noun: Noun
    cent: Noun | None = None


class Language:
    """One language. Its tables and methods are used by the rules in `names`, `dates`, `quantities` and `signs`."""

    code: str
    numbers: NumberWords
    words: Mapping[str, str]
    """The words for signs, by name: see `english`."""
    currencies: Mapping[str, Currency]
    """By sign, code or name."""
    magnitudes: Mapping[str, str]
    """The words for a thousand, a million and so on, by what is written: K, M, Mio."""
    not_magnitude = ""
    """Regular expression of what follows a K or M that is not a magnitude: "4K video"."""
    units: Mapping[str, Noun]
    months: tuple[str, ...]
    weekdays: Mapping[str, str] = {}
    """By abbreviation, without a full stop."""
    abbreviations: Mapping[str, str]
    """By what is written, with its full stop."""
    named: str
    """Words before a number that is a name and is read digit by digit: code, PIN, order."""
    called: str
    """Words before a telephone number."""
    versioned: str
    """Words before the number of a version."""
    year_after: str
    """Words before a year."""
    half = ""
    """One half after a whole number; empty: as `fraction` says it."""
    month_first = False
    """11/05 is the fifth of November."""
    hour_pattern = "(?!)"
    """What follows the hours where no minutes are written: "pm", "Uhr"."""
    after_time = "(?!)"
    """What may follow hours and minutes, and is passed to `time`."""
    clock_mark = ":"
    """Between hours and minutes."""
    ordinal_pattern = "(?!)"
    """An ordinal number, the number as the group `n`."""
    day_mark = "(?!)"
    """After the day of a date: "5th May", "5. Mai"."""
    of = "(?!)"
    """Between day and month, and `of_year` between month and year."""
    of_year = "(?!)"
    date_after = "(?!)"
    """Words before a date without a year: "on 3/14"."""
    date_words = "(?!)"
    """Words before an abbreviated weekday or month at the end of a sentence."""
    dotted_dates = False
    """Dates may end in a full stop: "3.10."."""
    not_version = ""
    """Regular expression that keeps numbers with separators apart from versions."""
    is_ = "is"
    """Words that may stand between a name and its number."""
    measures = "(?!)"
    """Nouns after a fraction that `fraction` says itself: "1/2 cup"."""
    counted_things = "(?!)"
    """Words after a number that is not a year."""
    full_weekdays = "(?!)"

    @property
    def month_pattern(self) -> str:
        """Matches a month, also abbreviated; the first three letters tell which."""
        return f"(?i:{'|'.join(self.months)})"

    def month(self, written: str) -> int:
        """Return the number of a month, from 1."""
        start = written.lower()[:3]
        return next(at for at, name in enumerate(self.months, 1) if name.lower().startswith(start))

    def year(self, year: int) -> str:
        return self.numbers.integer(year, "year")

    def day(self, day: int, before: str) -> str:
        """Return the day of a date. `before`: the text before the date."""
        return self.numbers.integer(day)

    def date(self, day: int, month: int, year: int | None, before: str) -> str:
        parts = [self.day(day, before), self.months[month - 1], "" if year is None else self.year(year)]
        return " ".join(filter(None, parts))

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        """Return a time of day. `minutes`: None if only the hours are written."""
        raise NotImplementedError

    def counted(self, written: str, noun: Noun) -> str:
        """Return a number, as it is written, with a unit."""
        value = self.numbers.value(written)
        one = value == "1"
        form = "feminine" if noun.feminine else "before_noun"
        return f"{self.numbers.words(written, form)} {noun.one if one else noun.many}"

    def amount(self, written: str, currency: Currency) -> str:
        """Return an amount of money: "three dollars and fifty cents"."""
        whole, _, cents = self.numbers.value(written).partition(".")
        if len(cents) != 2 or currency.cent is None:
            return self.counted(written, currency.noun)
        if cents == "00":
            return self.counted(whole, currency.noun)
        if whole == "0":
            return self.counted(str(int(cents)), currency.cent)
        return self.whole_and_cents(whole, str(int(cents)), currency)

    def whole_and_cents(self, whole: str, cents: str, currency: Currency) -> str:
        return f"{self.counted(whole, currency.noun)} {self.words['and']} {self.counted(cents, currency.cent or currency.noun)}"

    def large_amount(self, written: str, magnitude: str, currency: Currency) -> str:
        """Return an amount with "million" or the like."""
        return f"{self.magnitude(written, magnitude)} {currency.noun.many}"

    def magnitude(self, written: str, magnitude: str) -> str:
        return f"{self.numbers.words(written, 'before_noun')} {self.magnitudes[magnitude]}"

    def plain(self, written: str, after: str) -> str:
        """Return a number. `after`: the text after it."""
        return self.numbers.words(written)

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        """Return a fraction in words. `noun`: what `measures` has found after it; the words include it."""
        raise NotImplementedError

    def mixed(self, whole: str, top: int, bottom: int) -> str:
        """Return a number with a fraction: one and a half."""
        said = self.half if self.half and (top, bottom) == (1, 2) else self.fraction(top, bottom, "")
        return f"{self.numbers.words(whole)} {self.words['and']} {said}"

    def ordinal(self, match: Match) -> str | None:
        """Return the ordinal number that `ordinal_pattern` has found; None: that is not an ordinal number."""
        return self.numbers.integer(int(match["n"]), "ordinal")

    def range(self, first: str, last: str, before: str) -> str:
        return f"{first} {self.words['to']} {last}"

    def attributive(self, before: str, after: str) -> bool:
        """Whether an amount stands before a noun, in the singular: "a $5 bill"."""
        return False

    def telephone(self, group: str) -> str:
        """Return a group of digits of a telephone number."""
        return self.numbers.digits(group, 3 if len(group) > 5 else 0)

    def day_first(self, day: int, month: int, year: int | None, before: str) -> str:
        """Return a date that is written with the day before the name of the month."""
        return self.date(day, month, year, before)

    def more_rules(self) -> list[tuple[str, Say]]:
        """Return the rules of this language alone."""
        return []


def table(text: str) -> dict[str, Noun]:
    """Read units: on each line what is written, the noun for one, the noun for many, and `f` if it is feminine."""
    found: dict[str, Noun] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        written, one, many, *gender = (part.strip() for part in line.split("|"))
        found |= dict.fromkeys(written.split(), Noun(one, many, bool(gender)))
    return found
