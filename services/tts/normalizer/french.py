"""French: the words, and how dates, times and fractions are said."""

import regex

from services.tts.normalizer.language import Currency, Language, Match, Noun, table
from services.tts.normalizer.numbers import NumberWords

_CENTIME = Noun("centime", "centimes")
_EURO, _DOLLAR = Currency(Noun("euro", "euros"), _CENTIME), Currency(Noun("dollar", "dollars"), Noun("cent", "cents"))
_NOUN = regex.compile(r"\s\p{Ll}{2,}")


class French(Language):
    code = "fr"
    numbers = NumberWords(
        "fr", point="virgule", minus="moins", thousands=" \u00a0\u202f", decimal=",", year="spellout-numbering",
        before_noun="spellout-cardinal-masculine", feminine="spellout-cardinal-feminine", ordinal="spellout-ordinal-masculine",
    )  # fmt: skip
    words = {
        "to": "à", "or": "ou", "and": "et", "per": "par", "plus": "plus", "minus": "moins", "times": "fois", "divided": "divisé par",
        "equals": "égale", "unequal": "n'est pas égal à", "less": "est inférieur à", "greater": "est supérieur à",
        "at_most": "est inférieur ou égal à", "at_least": "est supérieur ou égal à", "dot": "point", "at": "arobase",
        "slash": "barre oblique", "dash": "tiret", "underscore": "tiret bas", "hashtag": "hashtag", "number": "numéro",
        "version": "version", "percent": "pour cent", "about": "environ", "approximately": "environ", "plus_minus": "plus ou moins",
        "power": "puissance", "squared": "au carré", "cubed": "au cube", "root": "racine carrée de", "section": "section",
        "then": "puis", "by": "par", "out_of": "sur", "copyright": "copyright", "implies": "donc", "pi": "pi", "infinity": "infini",
        "sharp": "sharp", "point": "point", "ratio": "à", "per_mille": "pour mille",
    }  # fmt: skip
    currencies = {
        "€": _EURO, "EUR": _EURO, "$": _DOLLAR, "USD": _DOLLAR,
        "£": Currency(Noun("livre", "livres", feminine=True), Noun("penny", "pence")), "¥": Currency(Noun("yen", "yens")),
        "₹": Currency(Noun("roupie", "roupies", feminine=True)), "CHF": Currency(Noun("franc", "francs"), _CENTIME),
    }  # fmt: skip
    magnitudes = {
        "millions": "millions", "million": "million", "milliards": "milliards", "milliard": "milliard", "mille": "mille",
        "M": "millions", "Md": "milliards", "K": "mille", "k": "mille",
    }  # fmt: skip
    units = table("""
        km | kilomètre | kilomètres
        m | mètre | mètres
        cm | centimètre | centimètres
        mm | millimètre | millimètres
        km/h | kilomètre par heure | kilomètres par heure
        m/s | mètre par seconde | mètres par seconde
        kg | kilogramme | kilogrammes
        g | gramme | grammes
        mg | milligramme | milligrammes
        l L | litre | litres
        ml | millilitre | millilitres
        °C ℃ | degré Celsius | degrés Celsius
        °F | degré Fahrenheit | degrés Fahrenheit
        ° | degré | degrés
        s | seconde | secondes | f
        ms | milliseconde | millisecondes | f
        min | minute | minutes | f
        Ko ko | kilooctet | kilooctets
        Mo | mégaoctet | mégaoctets
        Go | gigaoctet | gigaoctets
        To | téraoctet | téraoctets
        Mbit/s | mégabit par seconde | mégabits par seconde
        Hz | hertz | hertz
        MHz | mégahertz | mégahertz
        GHz | gigahertz | gigahertz
        W | watt | watts
        kW | kilowatt | kilowatts
        kWh | kilowattheure | kilowattheures
        m² m2 | mètre carré | mètres carrés
        km² | kilomètre carré | kilomètres carrés
        m³ | mètre cube | mètres cubes
        % | pour cent | pour cent
        ‰ | pour mille | pour mille
    """)
    months = (
        "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre",
    )  # fmt: skip
    abbreviations = {
        "M.": "Monsieur", "Mme": "Madame", "Mlle": "Mademoiselle", "MM.": "Messieurs", "Dr": "Docteur", "Dr.": "Docteur",
        "etc.": "et cetera", "p. ex.": "par exemple", "p.ex.": "par exemple", "c.-à-d.": "c'est-à-dire", "env.": "environ",
        "max.": "maximum", "min.": "minimum", "tél.": "téléphone", "Tél.": "téléphone", "av.": "avenue", "bd": "boulevard",
        "St": "Saint", "Ste": "Sainte", "Pr": "Professeur", "svp": "s'il vous plaît",
    }  # fmt: skip
    named = r"(?i:code|pin|commande|compte|carte|code postal|référence|billet|poste|facture|réservation|vol|chambre|dossier|mot de passe)"
    called = r"(?i:appel(?:ez|er|le)(?: le| au)?|téléphone|tél\.?|composez|mobile|fax|numéro)"
    versioned = r"(?:(?i:version)|Python|iOS|Android|Windows|macOS|Java)"
    year_after = r"(?i:en|depuis|année|an|de|dès|avant|après|jusqu'en)"
    day_mark = "er"
    half = "demi"
    is_ = "est"
    measures = r"(?:tasse|heure|cuillère|bouteille|douzaine|kilo|litre|mètre|journée)\b"
    ordinal_pattern = r"(?<![\p{L}\p{N}.,])(?P<n>\d{1,3})(?P<end>ère|er|re|ème|e|nde|nd)(?![\p{L}\p{N}])"
    clock_mark = r"(?::|\s?h\s?(?=\d\d))"
    hour_pattern = r"\s?h(?:eures?)?\b"

    def day(self, day: int, before: str) -> str:
        return "premier" if day == 1 else self.numbers.integer(day)

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        said = f"{self.numbers.integer(hours, 'feminine')} {'heures' if hours > 1 else 'heure'}"
        return f"{said} {self.numbers.integer(minutes, 'feminine')}" if minutes else said

    def whole_and_cents(self, whole: str, cents: str, currency: Currency) -> str:
        return f"{self.counted(whole, currency.noun)} {self.numbers.words(cents)}"

    def large_amount(self, written: str, magnitude: str, currency: Currency) -> str:
        of = "" if self.magnitudes[magnitude] == "mille" else " d'" if currency.noun.many[0] in "aeiouy" else " de "
        return f"{self.magnitude(written, magnitude)}{of or ' '}{currency.noun.many}"

    def plain(self, written: str, after: str) -> str:
        return self.numbers.words(written, "before_noun" if _NOUN.match(after) else "")

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        if (top, bottom) == (1, 2):
            return f"une demi {noun}" if noun and noun not in ("kilo", "litre", "mètre") else f"un demi {noun}".rstrip()
        name = {2: "demi", 3: "tiers", 4: "quart"}.get(bottom, self.numbers.integer(bottom, "ordinal"))
        said = f"{self.numbers.integer(top)} {name if top == 1 or bottom == 3 else name + 's'}"
        return f"{said} de {noun}" if noun else said

    def ordinal(self, match: Match) -> str | None:
        number = int(match["n"])
        if number == 1:
            return "première" if match["end"] in ("ère", "re", "e") else "premier"
        return {"nd": "second", "nde": "seconde"}.get(match["end"]) or self.numbers.integer(number, "ordinal")

    def telephone(self, group: str) -> str:
        return self.numbers.integer(int(group)) if len(group) == 2 and group[0] != "0" else self.numbers.digits(group)
