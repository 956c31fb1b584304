"""Take the markup out of a reply while it streams: HTML, comments, code, links, citations, stage directions. Pure.

The result does not depend on the sizes of the deltas: a construct is held back until it is certain what it is. What no
construct claims stays text, so that no word is lost. Marks of emphasis, headings, lists and tables are left to
`services.llm.spoken`: they never hold words back.
"""

from collections.abc import Callable
from html import unescape
from html.entities import html5

import regex

from services.llm.stage_directions import stage_directions

HELD = 300
"""Characters. A longer construct is text, not a link, tag or citation. Code and comments have no limit."""
_TAIL = 80
"""Characters that are kept to look back at."""

CODE = {"en": "Code.", "de": "Code.", "es": "Código.", "fr": "Code.", "hi": "कोड।"}
"""What is said in place of a block of code."""
_PROSE = frozenset(("markdown", "md", "plain", "plaintext", "text", "txt"))
"""Blocks of these languages are not code: they are read out."""

_BLOCKS = regex.compile(
    r"address|article|aside|blockquote|body|br|caption|center|dd|details|dialog|div|dl|dt|fieldset"
    r"|figcaption|figure|footer|form|h1|h2|h3|h4|h5|h6|head|header|hr|html|legend|li|main|menu|nav|ol"
    r"|option|p|section|summary|table|tbody|tfoot|thead|title|tr|ul"
)
_CELLS = regex.compile("td|th")
_INLINE = regex.compile(
    r"a|abbr|acronym|b|base|bdi|bdo|big|button|cite|code|col|colgroup|data|datalist|del|dfn|em|font|i"
    r"|iframe|img|input|ins|kbd|label|link|map|mark|meta|meter|noscript|object|optgroup|output|picture"
    r"|progress|q|rp|rt|ruby|s|samp|select|slot|small|source|span|strike|strong|sub|sup|time|track|tt|u|var"
    r"|video|wbr|audio|area|canvas|embed"
)
_OF_MODELS = regex.compile(
    r"answer|assistant|break|emphasis|final|msg|phoneme|prosody|reply|response|result|say-as|speak|speech"
    r"|user|voice"
)
"""Tags that chat models write around a reply or for a voice (SSML)."""
_HIDDEN = regex.compile("pre|script|style|svg|template")
"""Elements whose content is not read."""

_NAME = r"[A-Za-z][\w:.-]*"
_ATTRIBUTE = (
    r"\s+(?:[\w:@.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'=<>`]+)"
    r"|(?:allowfullscreen|async|autofocus|autoplay|checked|controls|default|defer|disabled|hidden|loop|multiple|muted|novalidate"
    r"|open|playsinline|readonly|required|reversed|selected)(?=[\s/>]))"
)
_COMMENT = regex.compile("<!--")
_DECLARATION = regex.compile(r"<(?:!(?:DOCTYPE|doctype)[^<>]*|\?[a-z][^<>]*\?)>|<!\[CDATA\[|\]\]>")
_TAG = regex.compile(rf"<(/?)({_NAME})((?:{_ATTRIBUTE})*)\s*(/?)>")
_ADDRESS = regex.compile(r"<((?:https?://|mailto:)?[^\s<>@:/]+[@:/.][^\s<>]*)>")
_PLACEHOLDER = regex.compile(r"<([^\W\d_][\w ,.'/-]{0,60})>")
_FENCE = regex.compile(r"(`{3,})[ \t]*([\w+#.-]*)[^`\n]*\n|(?<=(?:^|\n)[ \t>]*)(~{3,})[ \t]*([\w+#.-]*)[^\n]*\n")
_INLINE_CODE = regex.compile(r"(`+)(?!`)((?:(?!\1|\n\s*\n).)+)\1(?=[^`])", regex.DOTALL)
_LINK = regex.compile(
    r"!?\[((?:[^\[\]\n]|\n(?!\n)|\[[^\[\]]*\])*)\](?:\(\s*(?:<[^<>\n]*>|(?:[^()\s<]|\([^()\s]*\))*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)|\[[^\[\]\n]{1,80}\])"
)
_DEFINITION = regex.compile(
    r"(?<=(?:^|\n)[ \t]*)\[(?:[^\[\]\n]{1,80}\]:[ \t]*(?:https?:|www\.|mailto:|[/#.])\S*[^\n]*(?=\n)|\^[\w-]+\]:)"
)
_CHECKBOX = regex.compile(r"(?<=(?:^|\n)[ \t>]*(?:[-*+]|\d+[.)])[ \t]+)\[[ xX]\](?=[\s])")
_CITATION = regex.compile(
    r"(?<!(?<!\w)\w|[_\])])\[(?:\^[\w-]+|\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*|citation needed)\](?=[^(\[:])"
    r"|\u3010[^\u3010\u3011\n]*(?:\u2020|\d:\d)[^\u3010\u3011\n]*\u3011|\ue200[^\ue201]*\ue201"
)
_NUMBER = regex.compile(r"\W*\d*\W*")
_ENTITY = regex.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ESCAPE = regex.compile(r"\\([!-/:-@\[-`{-~\n])")
_SPECIAL = regex.compile(r"[<`~\[!\u3010\ue200&\\(*_\]]")
_CODE_MARKS = regex.compile(
    r"[{}();=<>\[\]]|^\s*(?:import|from|def|class|const|let|var|return|for|if)\b", regex.MULTILINE
)

Rule = Callable[[regex.Match[str]], str | None]
"""Returns the text in place of a construct; None: this is not one."""


class MarkupReader:
    """Takes the deltas of a reply, and returns its text without markup."""

    def __init__(self, language: str) -> None:
        """`language`: BCP 47."""
        code = language.partition("-")[0].lower()
        self._announced = f"\n{CODE.get(code, CODE['en'])}\n"
        self._text, self._at = "", 0
        self._end: regex.Pattern[str] | None = None  # of the code or comment that is being skipped
        self._searched = 0
        self._replacement = ""  # of what is being skipped
        self._in_prose = False  # within a block of code marks whose language is a text
        self._rules: tuple[tuple[regex.Pattern[str], Rule], ...] = (
            (_COMMENT, lambda _: self._skip("-->", "")),
            (_FENCE, self._fence),
            (
                _INLINE_CODE,
                lambda match: regex.sub(r"</?([^\W\d][^<>]*?)/?>", r" \1 ", match[2]) if match[2].strip() else "",
            ),
            (_TAG, self._tag),
            (_DECLARATION, lambda _: ""),
            (_ADDRESS, lambda match: match[1].removeprefix("mailto:")),
            (_PLACEHOLDER, self._placeholder),
            (_DEFINITION, lambda _: ""),
            (_CHECKBOX, lambda _: ""),
            (_CITATION, lambda _: ""),
            (regex.compile(stage_directions(code)), lambda _: ""),
            (_LINK, self._link),
            (_ENTITY, lambda match: unescape(match[0]) if match[0][1] == "#" or match[0][1:] in html5 else None),
            (_ESCAPE, lambda match: "" if match[1] in "()[]" else match[1]),
        )

    def feed(self, delta: str) -> str:
        """Return the text that is certain with this delta."""
        self._text += delta
        return self._read(last=False)

    def finish(self) -> str:
        """Return the rest of the text at the end of the reply."""
        self._text += "\n"
        found = self._read(last=False)
        while self._end is not None:  # what has no end is code if it looks like code, else it was not markup
            skipped, self._end = self._text[self._at :], None
            if self._replacement and len(_CODE_MARKS.findall(skipped)) > len(skipped) / 40:
                return found + self._replacement
            found += "\n" + self._read(last=True)
        return found + self._read(last=True)

    def _read(self, *, last: bool) -> str:
        found: list[str] = []
        while self._at < len(self._text):
            if self._end is not None:
                match = self._end.search(self._text, max(self._at, self._searched))
                if match is None:
                    self._searched = max(self._at, len(self._text) - _TAIL)
                    return "".join(found)
                found.append(self._replacement)
                self._at, self._end = match.end(), None
                continue
            special = _SPECIAL.search(self._text, self._at)
            to = special.start() if special else len(self._text)
            found.append(self._text[self._at : to])
            self._at = to
            if special is None:
                break
            replaced = self._construct(last=last)
            if replaced is None:
                break
            found.append(replaced)
        if self._end is None and self._at > _TAIL:
            self._text, self._at, self._searched = self._text[self._at - _TAIL :], _TAIL, 0
        return "".join(found)

    def _construct(self, *, last: bool) -> str | None:
        """Return the text of the construct here, or the next character if no construct begins here; None: it is not complete."""
        end = self._at + HELD
        for pattern, rule in self._rules:
            match = pattern.match(self._text, self._at, end, partial=not last and len(self._text) < end)
            if match is None:
                continue
            if match.partial:
                return None
            at = self._at
            self._at = match.end()
            replaced = rule(match)
            if replaced is not None:
                return replaced
            self._at = at
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, end: str, replacement: str) -> str:
        self._end, self._searched, self._replacement = regex.compile(end), self._at, replacement
        return ""

    def _fence(self, match: regex.Match[str]) -> str:
        marks, name = (match[1], match[2]) if match[1] else (match[3], match[4])
        if self._in_prose and not name:
            self._in_prose = False
            return "\n"
        if name.lower() in _PROSE:
            self._in_prose = True
            return "\n"
        self._at -= 1  # the end may follow at once
        return self._skip(rf"(?<!{marks[0]}){marks[0]}{{{len(marks)},}}(?=\s)", self._announced)

    def _tag(self, match: regex.Match[str]) -> str | None:
        closing, name, attributes, alone = match[1], match[2].lower(), match[3], match[4]
        if _HIDDEN.fullmatch(name) and not closing and not alone:
            return self._skip(rf"(?i)</{name}\s*>", self._announced if name == "pre" else "")
        if _BLOCKS.fullmatch(name):
            return "\n"
        if _CELLS.fullmatch(name):
            return ", " if closing else ""
        known = any(names.fullmatch(name) for names in (_INLINE, _OF_MODELS, _HIDDEN))
        return "" if known or closing or alone or attributes else None

    def _placeholder(self, match: regex.Match[str]) -> str | None:
        """Read "<ENTER>" and "<your name>"; leave "a<b and c>d"."""
        after_a_word = self._text[match.start() - 1 : match.start()].isalnum()
        return None if after_a_word and " " in match[1] else f" {match[1].replace('_', ' ')} "

    def _link(self, match: regex.Match[str]) -> str:
        """Go on with the text of the link, which may hold markup; a number is a citation."""
        text = "" if _NUMBER.fullmatch(match[1]) else match[1]
        self._text, self._at = self._text[: match.start()] + text + self._text[match.end() :], match.start()
        return ""
