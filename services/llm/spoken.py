"""Convert written text to its spoken form: without Markdown, emoji, HTML tags and the paths of URLs. Pure."""

from collections.abc import Iterator

import regex
from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark").enable("table").disable(["code", "heading", "lheading", "reference", "emphasis"])
# Unicode counts signs such as © as pictographs; they are read as words, so they stay.
_EMOJI = regex.compile(
    r"(?:(?![\u00a9\u00ae\u2122\u2139])\p{Extended_Pictographic}|\p{Regional_Indicator}|[0-9#*]\ufe0f?\u20e3)"
    r"[\ufe0e\ufe0f\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
)
_URL = regex.compile(
    r"\b(?:https?://|www\.)(?:www\.)?([\w.-]*\w)(?:[/:?#](?:[^\s<>\"'()\]]*[\w/=&])?(?:\([^\s()]*\))?)?",
    regex.IGNORECASE,
)
_REPLACEMENTS = (
    (regex.compile(r"^\s*(?:#{1,6}\s+|>\s*)+"), ""),
    (regex.compile(r"!?\[([^\[\]]*)\]\(\S*\s*$"), r"\1"),
    (regex.compile(r"\]\([^)\s]*\)?|!?\[(?=\w[^\]]*$)"), ""),  # a link that is split over two pieces
    (regex.compile(r"(?<=\d)\s*\*\*\s*(?=\d)"), " to the power of "),
    (regex.compile(r"(?<=\d)\s*[*\u00d7]\s*(?=\d)"), " times "),
    (regex.compile(r"[*`~]+|(?<!\w)_+|_+(?!\w)|^-{2,}|={2,}"), ""),
    (regex.compile(r"\s*\|\s*"), ", "),
    (regex.compile(r"([!?])[!?]*(?:\1)"), r"\1"),
    (regex.compile(r"\.{4,}"), "..."),
    (regex.compile(r"\s+"), " "),
    (regex.compile(r"\s+([,.!?;:])"), r"\1"),
)


def speakable(text: str) -> str:
    """Return the spoken form of a piece of a reply; empty if it has no words.

    Markdown that starts or ends in another piece is removed, too.
    """
    words = "".join(_words(_MARKDOWN.parse(text.strip())))
    words = _URL.sub(r"\1", _EMOJI.sub(" ", words))
    for pattern, replacement in _REPLACEMENTS:
        words = pattern.sub(replacement, words)
    words = words.strip(" ,").strip()
    return words if regex.search(r"\w", words) else ""


def _words(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        match token.type:
            case "inline":
                yield from _words(token.children or [])
            case "text" | "code_inline" | "fence":
                yield token.content
            case "image":
                yield token.content
            case "html_inline" if token.content.lower().startswith("<br"):
                yield " "
            case "softbreak" | "hardbreak" | "paragraph_close" | "tr_close":
                yield " "
            case "th_close" | "td_close":
                yield ", "
            case "list_item_open" if token.info:
                yield f"{token.info}. "
            case _:
                pass
