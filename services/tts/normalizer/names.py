"""Rules for what is a name: addresses, versions, telephone numbers, codes. Pure."""

import regex

from services.tts.normalizer.language import Language, Match
from services.tts.normalizer.rules import LEFT, RIGHT, Rule, rule

_DOMAINS = "com|org|net|io|ai|dev|app|co|edu|gov|info|biz|me|tv|uk|de|fr|es|in|eu|ch|at|us|ca|au|jp|nl|it|pl|br|mx|ar|se|no|dk|fi|be|ie|nz|xyz"
_FILES = "py|js|ts|txt|md|json|csv|html|css|pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|mp[34]|wav|zip|toml|ya?ml|sh|exe|rs|go|cpp|java"
_GROUP = 3
"""Digits that are read in one breath."""
_HOST = rf"(?:[\w-]+\.)+(?:{_DOMAINS})\b"
_YEARS = regex.compile(r"(?:1[5-9]|20)\d\d\D+(?:1[5-9]|20)\d\d")


def rules(language: Language) -> list[Rule]:
    numbers, words = language.numbers, language.words
    signs = {
        ".": words["dot"],
        "@": words["at"],
        "/": words["slash"],
        "-": words["dash"],
        "_": words["underscore"],
        "+": words["plus"],
        ":": "",
    }

    def address(match: Match) -> str:
        plain = regex.sub(r"^https?://(?:www\.)?|^www\.|/$", "", match[0])
        parts = regex.findall(r"[^\W\d_]+|\d+|[./@_+:-]|.", plain)
        return " ".join(
            filter(None, (numbers.digits(part) if part.isdigit() else signs.get(part, part) for part in parts))
        )

    def version(match: Match) -> str:
        parts = (numbers.integer(int(part)) for part in match["n"].split("."))
        prefix = f"{words['version']} " if match[0][0] in "vV" else ""
        return prefix + f" {words['point']} ".join(parts)

    def dotted(match: Match) -> str:
        return f" {words['dot']} ".join(numbers.digits(part) for part in match[0].split("."))

    def telephone(match: Match) -> str | None:
        """Digits in groups: as many as a telephone number has, grouped as one, or after a word that says so."""
        written = match[0]
        groups = regex.findall(r"\d+", written)
        count = sum(map(len, groups))
        sure = written[0] in "+(0" or bool(called.search(match.string, max(0, match.start() - 25), match.start()))
        usual = [*map(len, groups)] in ([3, 4], [3, 3, 4], [1, 3, 3, 4], [4, 4, 4, 4], [5, 5])
        rounded = len(groups) == 2 and all(group.endswith("0") and group[0] != "0" for group in groups)
        if not 7 <= count <= 19 or _YEARS.fullmatch(written) or not (sure or (usual and not rounded)):
            return None
        if not sure and regex.fullmatch(rf"{numbers.pattern}", written):
            return None
        plus = f"{words['plus']} " if written[0] == "+" else ""
        return plus + ", ".join(language.telephone(group) for group in groups)

    called = regex.compile(rf"{language.called}\b\D*$")

    def code(match: Match) -> str:
        digits = match["n"]
        number = f"{words['number']} " if match["hash"] else ""
        return number + numbers.digits(digits, _GROUP if len(digits) > 2 * _GROUP else 0)

    def long_number(match: Match) -> str | None:
        digits = match[0]
        return None if digits.endswith("000") else numbers.digits(digits, _GROUP)

    return [
        rule(r"(?<![\w.])[\w.+-]+@(?:[\w-]+\.)+\p{L}{2,}", address),
        rule(
            rf"(?<![\w.@-])(?:https?://(?:www\.)?[\w.-]*\w|(?:www\.)?{_HOST})(?::\d+)?(?:/[\w./?=&%#+-]*\w/?)?(?!\w)",
            address,
        ),
        rule(rf"(?<![\w.])[\w-]+(?:\.[\w-]+)*\.(?:{_FILES})\b", address),
        rule(rf"{LEFT}\d{{1,3}}(?:\.\d{{1,3}}){{3}}{RIGHT}(?!\.\d)", dotted),
        rule(rf"{LEFT}[vV]\.?\s?(?P<n>\d+(?:\.\d+)*){RIGHT}", version),
        rule(rf"(?<=\b{language.versioned}[ -]?)(?P<n>\d+(?:\.\d+)+){RIGHT}", version),
        rule(
            rf"{LEFT}(?!\d{{1,2}}\.\d{{1,2}}\.\d{{4}}){language.not_version}(?P<n>\d+(?:\.\d+){{2,}}){RIGHT}", version
        ),
        rule(
            rf"(?<![\p{{L}}\p{{N}}])(?:\+\d{{1,3}}[ .-]?)?(?:0\d{{1,4}}/|\(\d{{2,5}}\)[ .-]?|\d{{1,5}}[ .-])*\d{{2,9}}{RIGHT}(?![.,/:]\d)",
            telephone,
        ),
        rule(rf"(?<=\b{language.called} )(?P<hash>)(?P<n>\d{{3}}){RIGHT}", code),
        rule(
            rf"(?<=\b{language.named}(?:\s(?:{language.is_}|[A-Z]{{1,3}}-?))?[\s:]*)(?P<hash>#?)(?P<n>\d{{3,19}}){RIGHT}(?![.,]\d)",
            code,
        ),
        rule(rf"{LEFT}(?P<hash>)(?P<n>0\d+){RIGHT}(?![.,:/]\d)", code),
        rule(rf"{LEFT}\d{{7,}}{RIGHT}(?![.,]\d)", long_number),
    ]
