"""Hindi: the words, and how dates, times and fractions are said."""

from services.tts.normalizer.language import Currency, Language, Match, Noun, table
from services.tts.normalizer.numbers import NumberWords

_DOLLAR = Currency(Noun("डॉलर", "डॉलर"), Noun("सेंट", "सेंट"))
_RUPEE = Currency(Noun("रुपया", "रुपये"), Noun("पैसा", "पैसे"))
_HUNDRED = 100


class Hindi(Language):
    code = "hi"
    numbers = NumberWords("hi", point="दशमलव", minus="ऋण", ordinal="spellout-ordinal-masculine")
    words = {
        "to": "से", "or": "या", "and": "और", "per": "प्रति", "plus": "जमा", "minus": "घटा", "times": "गुणा", "divided": "भाग",
        "equals": "बराबर", "unequal": "बराबर नहीं", "less": "से कम", "greater": "से ज़्यादा", "at_most": "से कम या बराबर",
        "at_least": "से ज़्यादा या बराबर", "dot": "डॉट", "at": "ऐट", "slash": "स्लैश", "dash": "डैश", "underscore": "अंडरस्कोर",
        "hashtag": "हैशटैग", "number": "नंबर", "version": "वर्ज़न", "percent": "प्रतिशत", "about": "लगभग", "approximately": "लगभग",
        "plus_minus": "जमा या घटा", "power": "की घात", "squared": "का वर्ग", "cubed": "का घन", "root": "वर्गमूल", "section": "धारा",
        "then": "फिर", "by": "गुणा", "out_of": "में से", "copyright": "कॉपीराइट", "implies": "तो", "pi": "पाई", "infinity": "अनंत",
        "sharp": "शार्प", "point": "पॉइंट", "ratio": "अनुपात", "per_mille": "प्रति हज़ार",
    }  # fmt: skip
    currencies = {
        "₹": _RUPEE, "Rs.": _RUPEE, "Rs": _RUPEE, "रु.": _RUPEE, "INR": _RUPEE, "$": _DOLLAR, "USD": _DOLLAR,
        "€": Currency(Noun("यूरो", "यूरो"), Noun("सेंट", "सेंट")), "£": Currency(Noun("पाउंड", "पाउंड"), Noun("पेंस", "पेंस")),
    }  # fmt: skip
    magnitudes = {"हज़ार": "हज़ार", "लाख": "लाख", "करोड़": "करोड़", "अरब": "अरब", "K": "हज़ार", "M": "मिलियन", "B": "बिलियन"}
    units = table("""
        km किमी कि.मी. | किलोमीटर | किलोमीटर
        m | मीटर | मीटर
        cm | सेंटीमीटर | सेंटीमीटर
        mm | मिलीमीटर | मिलीमीटर
        km/h | किलोमीटर प्रति घंटा | किलोमीटर प्रति घंटा
        kg किग्रा | किलोग्राम | किलोग्राम
        g | ग्राम | ग्राम
        mg | मिलीग्राम | मिलीग्राम
        l L | लीटर | लीटर
        ml | मिलीलीटर | मिलीलीटर
        °C ℃ | डिग्री सेल्सियस | डिग्री सेल्सियस
        °F | डिग्री फ़ारेनहाइट | डिग्री फ़ारेनहाइट
        ° | डिग्री | डिग्री
        s | सेकंड | सेकंड
        min | मिनट | मिनट
        h | घंटा | घंटे
        KB kB | किलोबाइट | किलोबाइट
        MB | मेगाबाइट | मेगाबाइट
        GB | गीगाबाइट | गीगाबाइट
        TB | टेराबाइट | टेराबाइट
        m² | वर्ग मीटर | वर्ग मीटर
        W | वाट | वाट
        kW | किलोवाट | किलोवाट
        % | प्रतिशत | प्रतिशत
    """)
    months = (
        "जनवरी", "फ़रवरी", "मार्च", "अप्रैल", "मई", "जून", "जुलाई", "अगस्त", "सितंबर", "अक्टूबर", "नवंबर", "दिसंबर",
    )  # fmt: skip
    month_pattern = r"(?:जनवरी|फ़रवरी|फरवरी|मार्च|अप्रैल|मई|जून|जुलाई|अगस्त|सितंबर|सितम्बर|अक्टूबर|अक्तूबर|नवंबर|नवम्बर|दिसंबर|दिसम्बर)"
    abbreviations = {
        "डॉ.": "डॉक्टर",
        "डा.": "डॉक्टर",
        "प्रो.": "प्रोफ़ेसर",
        "श्री.": "श्री",
        "कु.": "कुमारी",
        "सं.": "संख्या",
        "उदा.": "उदाहरण",
    }
    named = r"(?:कोड|पिन|ऑर्डर|खाता|कार्ड|पिनकोड|टिकट|संदर्भ|बुकिंग|कमरा|PIN|OTP|ओटीपी|पासवर्ड)"
    called = r"(?:फ़ोन|फोन|मोबाइल|नंबर|कॉल|टेलीफ़ोन)"
    versioned = r"(?:वर्ज़न|वर्शन|Python|iOS|Android|Windows)"
    year_after = r"(?:सन|सन्|वर्ष|साल)"
    is_ = "है"
    after_time = r"\sबजे"
    hour_pattern = r"\sबजे"
    measures = r"(?:कप|घंटा|चम्मच|लीटर|किलो|गिलास|दिन)"
    ordinal_pattern = r"(?<![\p{L}\p{N}.,])(?P<n>\d{1,3})(?P<end>ला|ली|रा|री|था|थी|ठा|ठी|वाँ|वां|वीं|वें)(?![\p{L}\p{M}])"

    def month(self, written: str) -> int:
        plain = written.replace("\u093c", "").replace("म्ब", "ंब").replace("अक्तू", "अक्टू")
        return next(at for at, name in enumerate(self.months, 1) if name.replace("\u093c", "") == plain)

    def year(self, year: int) -> str:
        if 1100 <= year < 2000 and year % _HUNDRED:
            return f"{self.numbers.integer(year // _HUNDRED)} सौ {self.numbers.integer(year % _HUNDRED)}"
        return self.numbers.integer(year)

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        said = self.numbers.integer(hours)
        return f"{said} बजकर {self.numbers.integer(minutes)} मिनट" if minutes else f"{said} बजे"

    def whole_and_cents(self, whole: str, cents: str, currency: Currency) -> str:
        return f"{self.counted(whole, currency.noun)} {self.counted(cents, currency.cent or currency.noun)}"

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        said = {(1, 2): "आधा", (1, 4): "एक चौथाई", (3, 4): "तीन चौथाई", (1, 3): "एक तिहाई", (2, 3): "दो तिहाई"}.get(
            (top, bottom)
        )
        said = said or f"{self.numbers.integer(top)} बटा {self.numbers.integer(bottom)}"
        return f"{said} {noun}" if noun else said

    def mixed(self, whole: str, top: int, bottom: int) -> str:
        number = int(self.numbers.value(whole))
        if (top, bottom) == (1, 2):
            return {1: "डेढ़", 2: "ढाई"}.get(number) or f"साढ़े {self.numbers.integer(number)}"
        if (top, bottom) == (1, 4):
            return f"सवा {self.numbers.integer(number)}"
        return f"{self.numbers.integer(number)} सही {self.fraction(top, bottom, '')}"

    def ordinal(self, match: Match) -> str | None:
        said = self.numbers.integer(int(match["n"]), "ordinal")
        if match["end"] in ("ली", "री", "थी", "ठी", "वीं"):
            return f"{said.removesuffix('वाँ')}वीं" if said.endswith("वाँ") else f"{said.removesuffix('ा')}ी"
        return said
