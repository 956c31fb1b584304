"""German: the words, and how dates, times and fractions are said."""

import regex

from services.tts.normalizer.language import Currency, Language, Match, Noun, Say, table
from services.tts.normalizer.numbers import NumberWords

_CENT = Noun("Cent", "Cent")
_EURO, _DOLLAR = Currency(Noun("Euro", "Euro"), _CENT), Currency(Noun("Dollar", "Dollar"), _CENT)
_FEMININE = regex.compile(r"\s\p{Lu}\p{Ll}*(?:e|ung|heit|keit|schaft|ion|tät)\b")
_DATIVE = regex.compile(
    r"\b(?:am|dem|den|des|vom|zum|beim|im|seit|ab|bis zum|jedem|jeden|diesem|diesen)\s$", regex.IGNORECASE
)
_NOMINATIVE = regex.compile(r"\b(?:der|die|das|jeder|jede|jedes|dieser|diese|dieses)\s$", regex.IGNORECASE)


class German(Language):
    code = "de"
    numbers = NumberWords(
        "de", point="Komma", minus="minus", thousands=".\u00a0\u202f", decimal=",",
        before_noun="spellout-cardinal-neuter", feminine="spellout-cardinal-feminine",
    )  # fmt: skip
    words = {
        "to": "bis", "or": "oder", "and": "und", "per": "pro", "plus": "plus", "minus": "minus", "times": "mal",
        "divided": "durch", "equals": "ist", "unequal": "ist nicht", "less": "ist kleiner als", "greater": "ist größer als",
        "at_most": "ist höchstens", "at_least": "ist mindestens", "dot": "Punkt", "at": "ät", "slash": "Schrägstrich",
        "dash": "Strich", "underscore": "Unterstrich", "hashtag": "Hashtag", "number": "Nummer", "version": "Version",
        "percent": "Prozent", "about": "etwa", "approximately": "ungefähr", "plus_minus": "plus minus", "power": "hoch",
        "squared": "Quadrat", "cubed": "hoch drei", "root": "Wurzel aus", "section": "Paragraf", "then": "dann",
        "by": "mal", "out_of": "von", "copyright": "Copyright", "implies": "also", "pi": "Pi", "infinity": "unendlich",
        "sharp": "Sharp", "point": "Punkt", "ratio": "zu", "per_mille": "Promille",
    }  # fmt: skip
    currencies = {
        "€": _EURO, "EUR": _EURO, "Euro": _EURO, "$": _DOLLAR, "USD": _DOLLAR, "Dollar": _DOLLAR,
        "£": Currency(Noun("Pfund", "Pfund"), Noun("Penny", "Pence")), "¥": Currency(Noun("Yen", "Yen")),
        "₹": Currency(Noun("Rupie", "Rupien", feminine=True)),
        "CHF": Currency(Noun("Franken", "Franken"), Noun("Rappen", "Rappen")), "Cent": Currency(_CENT),
    }  # fmt: skip
    magnitudes = {
        "Tsd.": "Tausend", "Mio.": "Millionen", "Mrd.": "Milliarden", "Mio": "Millionen", "Mrd": "Milliarden", "Millionen": "Millionen",
        "Milliarden": "Milliarden", "Million": "Million", "Milliarde": "Milliarde", "K": "tausend",
    }  # fmt: skip
    units = table("""
        km | Kilometer | Kilometer
        m | Meter | Meter
        cm | Zentimeter | Zentimeter
        mm | Millimeter | Millimeter
        km/h | Kilometer pro Stunde | Kilometer pro Stunde
        m/s | Meter pro Sekunde | Meter pro Sekunde
        kg | Kilogramm | Kilogramm
        g | Gramm | Gramm
        mg | Milligramm | Milligramm
        l L | Liter | Liter
        ml | Milliliter | Milliliter
        EL | Esslöffel | Esslöffel
        TL | Teelöffel | Teelöffel
        °C ℃ | Grad Celsius | Grad Celsius
        °F | Grad Fahrenheit | Grad Fahrenheit
        ° | Grad | Grad
        s Sek. | Sekunde | Sekunden | f
        ms | Millisekunde | Millisekunden | f
        min Min. | Minute | Minuten | f
        h Std. | Stunde | Stunden | f
        KB kB | Kilobyte | Kilobyte
        MB | Megabyte | Megabyte
        GB | Gigabyte | Gigabyte
        TB | Terabyte | Terabyte
        Mbit/s | Megabit pro Sekunde | Megabit pro Sekunde
        Hz | Hertz | Hertz
        kHz | Kilohertz | Kilohertz
        MHz | Megahertz | Megahertz
        GHz | Gigahertz | Gigahertz
        W | Watt | Watt
        kW | Kilowatt | Kilowatt
        kWh | Kilowattstunde | Kilowattstunden | f
        V | Volt | Volt
        m² m2 qm | Quadratmeter | Quadratmeter
        km² | Quadratkilometer | Quadratkilometer
        m³ | Kubikmeter | Kubikmeter
        dB | Dezibel | Dezibel
        % | Prozent | Prozent
        ‰ | Promille | Promille
    """)
    months = (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember",
    )  # fmt: skip
    month_pattern = (
        r"(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
        r"|(?:Jan|Feb|Mär|Apr|Jun|Jul|Aug|Sept|Sep|Okt|Nov|Dez)\b\.?)"
    )
    abbreviations = {
        "Dr.": "Doktor", "Prof.": "Professor", "Hr.": "Herr", "Fr.": "Frau", "z. B.": "zum Beispiel", "z.B.": "zum Beispiel",
        "z.\u202fB.": "zum Beispiel", "z.\u00a0B.": "zum Beispiel", "d. h.": "das heißt", "d.h.": "das heißt", "usw.": "und so weiter",
        "u. a.": "unter anderem", "u.a.": "unter anderem", "bzw.": "beziehungsweise", "ca.": "circa", "Ca.": "circa", "etc.": "et cetera",
        "ggf.": "gegebenenfalls", "evtl.": "eventuell", "inkl.": "inklusive", "zzgl.": "zuzüglich", "max.": "maximal", "min.": "mindestens",
        "Nr.": "Nummer", "Tel.": "Telefon", "St.": "Sankt", "S.": "Seite", "vgl.": "vergleiche", "z. T.": "zum Teil", "o. Ä.": "oder Ähnliches",
        "i. d. R.": "in der Regel", "Abs.": "Absatz", "Str.": "Straße", "GmbH": "GmbH", "Mio.": "Millionen", "Mrd.": "Milliarden",
    }  # fmt: skip
    named = r"(?i:code|pin|bestellung|auftrag|konto|karte|plz|postleitzahl|referenz|ticket|durchwahl|rechnung|buchung|kundennummer|nummer|passwort)"
    called = r"(?i:ruf(?:e|en)?|anrufen|telefon|tel\.?|wähle?n?|handy|mobil|fax|nummer)"
    versioned = r"(?:(?i:version)|Python|iOS|Android|Windows|macOS|Java)"
    year_after = r"(?i:seit|im jahr|jahr|jahre|anno|von|bis|vor|nach|ab|um|sommer|herbst|winter|frühling)"
    hour_pattern = r"\s?Uhr\b"
    after_time = r"\s?Uhr\b"
    clock_mark = r"(?::|\.(?=\d\d\s?Uhr))"
    day_mark = r"\."
    dotted_dates = True
    ordinal_pattern = r"(?<=\b(?i:am|dem|den|des|vom|zum|beim|im|der|die|das|jeder|jede|jedes|dieser|diese|dieses)\s)(?P<n>\d{1,3})\.(?=\s\p{L})"
    not_version = r"(?!\d{1,3}(?:\.\d{3})+(?!\d))"
    is_ = "ist|lautet|Nr\\."
    measures = r"(?:Tasse|Stunde|Minute|Flasche|Packung|Scheibe|Seite|Liter|Kilo|Pfund|Meter|Jahr)\b"
    counted_things = r"(?:Euro|Dollar|Leute|Menschen|Personen|Stück|Meter|Kilometer|Mitarbeiter|Einwohner|Mal)\b"

    def day(self, day: int, before: str) -> str:
        ordinal = self.numbers.integer(day, "ordinal")
        if _DATIVE.search(before):
            return f"{ordinal}n"
        return ordinal if _NOMINATIVE.search(before) else f"{ordinal}r"

    def ordinal(self, match: Match) -> str | None:
        return self.day(int(match["n"]), match.string[: match.start()])

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        said = f"{self.numbers.integer(hours, 'before_noun')} Uhr"
        return f"{said} {self.numbers.integer(minutes)}" if minutes else said

    def whole_and_cents(self, whole: str, cents: str, currency: Currency) -> str:
        return f"{self.counted(whole, currency.noun)} {self.numbers.words(cents)}"

    def magnitude(self, written: str, magnitude: str) -> str:
        word = self.magnitudes[magnitude]
        return f"{self.numbers.words(written, 'feminine' if word.startswith('M') else 'before_noun')} {word}"

    def plain(self, written: str, after: str) -> str:
        if _FEMININE.match(after):
            return self.numbers.words(written, "feminine")
        return self.numbers.words(written, "before_noun" if regex.match(r"\s\p{Lu}", after) else "")

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        if (top, bottom) == (1, 2):
            if not noun:
                return "ein halb"
            feminine = noun in ("Tasse", "Stunde", "Minute", "Flasche", "Packung", "Scheibe", "Seite")
            neuter = noun in ("Kilo", "Pfund", "Jahr")
            return f"{'eine halbe' if feminine else 'ein halbes' if neuter else 'ein halber'} {noun}"
        name = {2: "Halbe", 3: "Drittel", 7: "Siebtel", 8: "Achtel"}.get(bottom)
        name = name or f"{self.numbers.integer(bottom)}{'tel' if bottom < 20 else 'stel'}".capitalize()
        said = f"{self.numbers.integer(top, 'before_noun')} {name}"
        return f"{said} {noun}" if noun else said

    def mixed(self, whole: str, top: int, bottom: int) -> str:
        if (top, bottom) == (1, 2):
            return f"{self.numbers.words(whole, 'before_noun')}einhalb"
        return f"{self.numbers.words(whole)} {self.fraction(top, bottom, '')}"

    def more_rules(self) -> list[tuple[str, Say]]:
        return [(r"\b\p{L}+(?<=\p{Ll})str\.", lambda match: f"{match[0][:-4]}straße")]
