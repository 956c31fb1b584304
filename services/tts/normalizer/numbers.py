"""Numbers in words, by the rules of Unicode's CLDR (library `unicode-rbnf`). Pure."""

from functools import cached_property, lru_cache

import regex
from unicode_rbnf import RbnfEngine

_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
LONGEST_DIGITS = 15
"""A longer number is read digit by digit."""
_DIGITS = {
    ord(digit): str(value)
    for start in (0x966, 0x660, 0x6F0, 0x9E6)
    for value, digit in enumerate(map(chr, range(start, start + 10)))
}


@lru_cache(maxsize=16)
def number_rules(code: str) -> RbnfEngine:
    """Return the number rules of a language.

    Raises:
        ValueError: CLDR has no rules for the language.
    """
    return RbnfEngine.for_language(code)


def latin_digits(text: str) -> str:
    """Return the text with the digits of other scripts as 0 to 9. Its length stays the same."""
    return text.translate(_DIGITS)


class NumberWords:
    """The numbers of one language."""

    def __init__(
        self,
        code: str,
        *,
        point: str,
        minus: str,
        thousands: str = ",",
        decimal: str = ".",
        before_noun: str = "",
        feminine: str = "",
        ordinal: str = "spellout-ordinal",
        year: str = "spellout-numbering-year",
    ) -> None:
        """`thousands`, `decimal`: characters. `before_noun`, `feminine`, `ordinal`, `year`: names of CLDR's rules."""
        self._code, self._point, self._minus = code, point, minus
        self.thousands, self.decimal = thousands, decimal
        self._rules = {"before_noun": before_noun, "feminine": feminine, "ordinal": ordinal, "year": year}

    @cached_property
    def pattern(self) -> str:
        """Regular expression of a number without a sign, as the language writes it."""
        separators, decimal = regex.escape(self.thousands, special_only=False), regex.escape(self.decimal)
        others = "" if self.decimal == "." else r"|\d+\.\d{1,2}(?![\d.])"
        return rf"(?:\d{{1,3}}(?:[{separators}]\d{{2,3}})*[{separators}]\d{{3}}(?:{decimal}\d+)?(?!\d){others}|\d+(?:{decimal}\d+)?)"

    def value(self, written: str) -> str:
        """Return a number with a point for the decimals and without separators."""
        plain: str = regex.sub(
            rf"[{regex.escape(self.thousands, special_only=False)}](?=\d{{2,3}})(?!\d{{1,2}}$)", "", written
        )
        return plain.replace(self.decimal, ".")

    def words(self, written: str, form: str = "") -> str:
        """Return a number in words, from its written form without a sign.

        `form`: empty for counting; `before_noun` and `feminine` where the language distinguishes them; `year`; `ordinal`.
        """
        whole, _, decimals = self.value(written).partition(".")
        if not decimals:
            return self.digits(whole) if len(whole) > LONGEST_DIGITS else self.integer(int(whole), form)
        return f"{self.integer(int(whole))} {self._point} {self.digits(decimals)}"

    def signed(self, sign: str, words: str) -> str:
        return f"{self._minus} {words}" if sign in ("-", "\u2212") else words

    @lru_cache(maxsize=4096)  # noqa: B019 - there are five instances, for the life of the process
    def integer(self, number: int, form: str = "") -> str:
        rule = self._rules.get(form) or "spellout-numbering"
        said = number_rules(self._code).format_number(number, ruleset_names=[rule]).text
        return str(said).replace("\u00ad", "")

    def digits(self, digits: str, group: int = 0) -> str:
        """Return digits one by one; with a comma after each `group` of them, but none before the last digit."""
        groups = regex.findall(rf"\d{{{group}}}(?=\d\d)|\d+", digits) if group else [digits]
        return ", ".join(" ".join(self.integer(int(digit)) for digit in one) for one in groups)


def roman(letters: str) -> int:
    """Return the value of a roman numeral."""
    values = [_ROMAN[letter] for letter in letters]
    return sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))
