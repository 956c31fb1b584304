"""The spoken form of written text."""

from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from services.llm.spoken import SpokenSentences


def say(*deltas: str, language: str = "en") -> str:
    """The whole spoken form of a reply that arrives in these deltas."""
    spoken = SpokenSentences(language)
    found = [sentence for delta in deltas for sentence in spoken.feed(delta)]
    return " ".join((*found, *spoken.finish()))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Nothing to do here.", "Nothing to do here."),
        ("**Bold** and *slanted* _words_ and `code`.", "Bold and slanted words and code."),
        ("# A title", "A title"),
        ("### Head: body", "Head: body"),
        ("- an item", "an item"),
        ("* an item", "an item"),
        ("1. Preheat the oven.", "1. Preheat the oven."),
        ("> a quotation", "a quotation"),
        ("A [link](https://a.b/c) and ![a picture](x.png).", "A link and a picture."),
        ("See https://www.example.com/a/b?c=1.", "See example.com."),
        ("Write to me@example.org.", "Write to me@example.org."),
        ("Great!!! Really?!", "Great! Really?!"),
        ("Wait..... what", "Wait... what"),
        ("I like it 👍🏽 👨‍👩‍👧 🇩🇪 1️⃣ !", "I like it!"),
        ("🙂", ""),
        ("---", ""),
        ("***", ""),
        ("```", ""),
        ("...", ""),
        ("", ""),
        ("**bold that goes on", "bold that goes on"),
        ("and ends here** with more", "and ends here with more"),
        ("| name | price |", "name, price"),
        ("|---|---|", ""),
        ("<b>hi</b> there<br/>", "hi there"),
        ("a < b and 5 > 3", "a < b and 5 > 3"),
        ("#ParleyRocks", "#ParleyRocks"),
        ("snake_case is 2 * 3 = 6 and 2*3*4", "snake_case is 2 times 3 = 6 and 2 times 3 times 4"),
        ("$3.50 & 10% © 2024 at 5 p.m., C#", "$3.50 & 10% © 2024 at 5 p.m., C#"),
        ("one<br>two<BR/>three", "one two three"),
        ("2**3 is 8", "2 to the power of 3 is 8"),
        ("see [this and that", "see [this and that"),
        ("Is it https://a.b/c/ or http://x.org/a_(b)?", "Is it a.b or x.org?"),
        ("a[0] and b[1]", "a[0] and b[1]"),
        ("tom &amp; co", "tom & co"),
        ("今天**很**好。", "今天很好。"),
        ("यह **अच्छा** है।", "यह अच्छा है।"),
        # HTML
        ("<h2>Hours</h2>\nWe open at nine.", "Hours We open at nine."),
        ("<!-- polite --> Hello there.", "Hello there."),
        ("<!--\nBe polite. Be brief.\n-->\nHello there.", "Hello there."),
        ("<!-- never closed. Hello.", "never closed. Hello."),
        ("Yes. <section>There it is.</section> Done.", "Yes. There it is. Done."),
        ("<div\n  class='a. B'\n>Hi. You</div>", "Hi. You"),
        ("<table><tr><th>tea</th><td>$3</td></tr></table>", "tea, $3"),
        ("<ul><li>milk</li><li>eggs</li></ul>", "milk eggs"),
        ("<script>let x = '<b>';</script><style>\nb {}\n</style>Hi.", "Hi."),
        ("Press <ENTER> to go on.", "Press ENTER to go on."),
        ("Press\n<ENTER>\nto go on.", "Press ENTER to go on."),
        ("Dear <first_name>, hello.", "Dear first name, hello."),
        ("a<b and c>d", "a<b and c>d"),
        ("<answer>At nine.</answer>", "At nine."),
        ("It ends <b", "It ends <b"),
        ("<https://x.org/a> or <me@x.org>", "x.org or me@x.org"),
        ("AT&T, Q&A; tom &lt;3", "AT&T, Q&A; tom <3"),
        # code
        ("Here:\n```python\nfor i in range(3):\n    print(i)\n```\nThat is all.", "Here: Code. That is all."),
        ("Here:\n~~~\na. B. c()\n~~~\nThat is all.", "Here: Code. That is all."),
        ("Here: ```sh\nls -l\n``` That is all.", "Here: Code. That is all."),
        ("````\n```\nx\n```\n````\nDone.", "Code. Done."),
        ("<pre><code>x = 1</code></pre>Done.", "Code. Done."),
        ("```python\nx = f(1)", "Code."),
        ("```\nRoses are red, I said.", "Roses are red, I said."),
        ("```text\nRoses are red.\n```\nSo.", "Roses are red. So."),
        ("Call `open(path)` or `a < b` or ``x`y``.", "Call open(path) or a < b or xy."),
        # citations, links, lists, tables
        ("See 【4†notes】 and [2]. So[1, 3] it[^1] is.", "See and. So it is."),
        ("So it is ([source](https://x.org/a)), [1](http://a.b).", "So it is (source),."),
        ("[1]: https://x.org/a\n[^1]: A note.", "A note."),
        ("- [ ] one\n- [x] two", "one two"),
        ("| a | b |\n|:-:|--:|\n| 1 | c |", "a, b 1, c"),
        # stage directions
        ("Sure! *smiles warmly* Of course. (laughs)", "Sure! Of course."),
        ("_sighs_ Oh *chuckles*, right. [clears throat]", "Oh, right."),
        ("He *laughs* at the *smiling* face, *always*.", "He laughs at the smiling face, always."),
    ],
)
def test_spoken_forms(written: str, said: str) -> None:
    assert say(written) == said
    assert say(*written) == said


def test_code_is_announced_and_a_smile_not_read_in_the_language_of_the_session() -> None:
    assert say("Hier.\n```\nx = 1;\n```\n*lächelt*", language="de-AT") == "Hier. Code."
    assert say("```\nx = 1;\n```\n", language="es") == "Código."


VOCABULARY = ("alpha", "beta", "gamma", "delta", "na\u00efve", "नमस्ते")
HIDDEN = (
    "<!-- {0}. {0} -->", "\n```py\n{0} = [1]\n```\n", "<script>{0}</script>", "\u3010{0}\u2020notes\u3011", "<hr>", "</div>",
    "<br class='{0}. {0}'/>", "\n---\n", " [2]", "\n\n", "\n<pre>\n{0}\n</pre>\n", "<!DOCTYPE {0}>", "\n*nods, {0}*",
)  # fmt: skip
SHOWN = (
    "{0}. ", "**{0}**", "*{0}*", "`{0}`", "<b>{0}</b>", "[{0}](http://x.y/z)", "<{0}>", "_{0}_", "<i title='a>b'>{0}</i>",
    "~~{0}~~", "\n# {0}\n", "\n> {0}\n", "\n- {0}\n", "\n| {0} |\n", "<section>{0}</section>", "\n<td>\n{0}</td>", "({0})",
    "<p align=left>{0}", "![{0}](a.png)", "\n```text\n{0}\n```\n", "&quot;{0}&quot;", "\\*{0}\\*", "a<{0}", "<![CDATA[{0}]]>",
)  # fmt: skip


@st.composite
def replies(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A reply, and the words of it that a person would read."""
    text, read = "", []
    for template in draw(st.lists(st.sampled_from((*HIDDEN, *SHOWN)), max_size=10)):
        words = draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=3))
        text += f" {template.format(' '.join(words))} "
        read += words if template in SHOWN else []
    return text, read


def cut(text: str, places: list[int]) -> list[str]:
    marks = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(marks)]


@given(replies(), st.lists(st.integers(0, 1000), max_size=12))
def test_every_word_that_a_person_would_read_is_spoken_and_no_mark(
    reply: tuple[str, list[str]], places: list[int]
) -> None:
    text, read = reply
    said = say(*cut(text, places))
    assert said == say(text)
    if read:  # else what is hidden is spoken rather than nothing
        assert [word for word in regex.findall(r"[\p{L}\p{M}]+", said) if word in VOCABULARY] == read
        assert not regex.search(r"</|<!--|[*`~|\\]|\b(?:section|script|pre|class|align)\b", said)


MARKS = "<>/!-*_`~[]()#&;|\\\"'=. \n0"


@given(st.text(alphabet=MARKS + "abcXYéह", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_a_reply_with_letters_is_never_silent_however_it_is_cut(text: str, places: list[int]) -> None:
    said = say(*cut(text, places))
    assert said == say(text)
    assert bool(regex.search(r"\p{L}", text)) <= bool(said)
    assert not set("*`") & set(said)


@given(st.text(max_size=100))
def test_any_text_is_converted_without_marks(text: str) -> None:
    said = say(text)
    assert said == said.strip()
    assert not set("*`") & set(said)


@given(st.text(alphabet=st.characters(categories=("Ll", "Lu", "Nd", "Zs")), max_size=60))
def test_plain_text_is_unchanged(text: str) -> None:
    assert say(text).split() == (text.split() if any(c.isalnum() for c in text) else [])
