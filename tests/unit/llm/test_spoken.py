"""The spoken form of written text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.spoken import speakable


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
        ("```python", ""),
        ("```", ""),
        ("...", ""),
        ("", ""),
        ("**bold that goes on", "bold that goes on"),
        ("and ends here** with more", "and ends here with more"),
        ("| name | price |", "name, price"),
        ("|---|---|", ""),
        ("<b>hi</b> there<br/>", "hi there"),
        ("a < b and 5 > 3", "a < b and 5 > 3"),
        ("snake_case is 2 * 3 = 6 and 2*3*4", "snake_case is 2 times 3 = 6 and 2 times 3 times 4"),
        ("$3.50 & 10% © 2024 at 5 p.m., C#", "$3.50 & 10% © 2024 at 5 p.m., C#"),
        ("one<br>two<BR/>three", "one two three"),
        ("2**3 is 8", "2 to the power of 3 is 8"),
        ("see [this", "see this"),
        ("page](http://a.b/c) there", "page there"),
        ("[this](http://a.b", "this"),
        ("Is it https://a.b/c/ or http://x.org/a_(b)?", "Is it a.b or x.org?"),
        ("a[0] and [1]", "a[0] and [1]"),
        ("tom &amp; co", "tom & co"),
        ("今天**很**好。", "今天很好。"),
        ("यह **अच्छा** है।", "यह अच्छा है।"),
    ],
)
def test_spoken_forms(written: str, said: str) -> None:
    assert speakable(written) == said


@given(st.text(max_size=100))
def test_any_text_is_converted_without_markup(text: str) -> None:
    said = speakable(text)
    assert said == said.strip()
    assert not set("*`~") & set(said)


@given(st.text(alphabet=st.characters(categories=("Ll", "Lu", "Nd", "Zs")), max_size=60))
def test_plain_text_is_unchanged(text: str) -> None:
    assert speakable(text).split() == (text.split() if any(c.isalnum() for c in text) else [])
