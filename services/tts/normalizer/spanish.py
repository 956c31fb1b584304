"""Spanish: the words, and how dates, times and fractions are said."""

import regex

from services.tts.normalizer.language import Currency, Language, Match, Noun, table
from services.tts.normalizer.numbers import NumberWords

_CENTIMO, _CENTAVO = Noun("céntimo", "céntimos"), Noun("centavo", "centavos")
_EURO, _DOLLAR = Currency(Noun("euro", "euros"), _CENTIMO), Currency(Noun("dólar", "dólares"), _CENTAVO)
_FEMININE_NOUN = regex.compile(r"\s\p{Ll}+as?\b")
_NOUN = regex.compile(r"\s\p{Ll}{3,}")


class Spanish(Language):
    code = "es"
    numbers = NumberWords(
        "es", point="coma", minus="menos", thousands=". \u00a0\u202f", decimal=",",
        before_noun="spellout-cardinal-masculine", feminine="spellout-cardinal-feminine", ordinal="spellout-ordinal-masculine",
    )  # fmt: skip
    words = {
        "to": "a", "or": "o", "and": "y", "per": "por", "plus": "más", "minus": "menos", "times": "por", "divided": "entre",
        "equals": "es igual a", "unequal": "no es igual a", "less": "es menor que", "greater": "es mayor que",
        "at_most": "es menor o igual que", "at_least": "es mayor o igual que", "dot": "punto", "at": "arroba", "slash": "barra",
        "dash": "guion", "underscore": "guion bajo", "hashtag": "hashtag", "number": "número", "version": "versión",
        "percent": "por ciento", "about": "unos", "approximately": "aproximadamente", "plus_minus": "más menos",
        "power": "elevado a", "squared": "al cuadrado", "cubed": "al cubo", "root": "raíz cuadrada de", "section": "sección",
        "then": "luego", "by": "por", "out_of": "de", "copyright": "copyright", "implies": "entonces", "pi": "pi",
        "infinity": "infinito", "sharp": "sharp", "point": "punto", "ratio": "a", "per_mille": "por mil",
    }  # fmt: skip
    currencies = {
        "€": _EURO, "EUR": _EURO, "$": _DOLLAR, "USD": _DOLLAR, "US$": _DOLLAR,
        "£": Currency(Noun("libra", "libras", feminine=True), Noun("penique", "peniques")),
        "¥": Currency(Noun("yen", "yenes")), "₹": Currency(Noun("rupia", "rupias", feminine=True)),
        "MXN": Currency(Noun("peso", "pesos"), _CENTAVO),
    }  # fmt: skip
    magnitudes = {
        "millones": "millones",
        "millón": "millón",
        "mil": "mil",
        "K": "mil",
        "M": "millones",
        "mil millones": "mil millones",
    }
    units = table("""
        km | kilómetro | kilómetros
        m | metro | metros
        cm | centímetro | centímetros
        mm | milímetro | milímetros
        km/h | kilómetro por hora | kilómetros por hora
        m/s | metro por segundo | metros por segundo
        kg | kilogramo | kilogramos
        g | gramo | gramos
        mg | miligramo | miligramos
        l L | litro | litros
        ml | mililitro | mililitros
        °C ℃ | grado Celsius | grados Celsius
        °F | grado Fahrenheit | grados Fahrenheit
        ° | grado | grados
        s | segundo | segundos
        ms | milisegundo | milisegundos
        min | minuto | minutos
        h | hora | horas | f
        KB kB | kilobyte | kilobytes
        MB | megabyte | megabytes
        GB | gigabyte | gigabytes
        TB | terabyte | terabytes
        Mbps | megabit por segundo | megabits por segundo
        GHz | gigahercio | gigahercios
        MHz | megahercio | megahercios
        Hz | hercio | hercios
        W | vatio | vatios
        kW | kilovatio | kilovatios
        kWh | kilovatio hora | kilovatios hora
        m² m2 | metro cuadrado | metros cuadrados
        km² | kilómetro cuadrado | kilómetros cuadrados
        m³ | metro cúbico | metros cúbicos
        % | por ciento | por ciento
        ‰ | por mil | por mil
    """)
    months = (
        "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
    )  # fmt: skip
    month_pattern = (
        r"(?i:enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|setiembre|octubre|noviembre|diciembre)"
    )
    abbreviations = {
        "Sr.": "señor", "Sra.": "señora", "Srta.": "señorita", "Dr.": "doctor", "Dra.": "doctora", "Ud.": "usted", "Uds.": "ustedes",
        "etc.": "etcétera", "p. ej.": "por ejemplo", "p.ej.": "por ejemplo", "núm.": "número", "Núm.": "número", "tel.": "teléfono",
        "Tel.": "teléfono", "Av.": "avenida", "Avda.": "avenida", "aprox.": "aproximadamente", "máx.": "máximo", "mín.": "mínimo",
        "Prof.": "profesor", "pág.": "página", "c/": "calle",
    }  # fmt: skip
    named = r"(?i:código|pin|pedido|orden|cuenta|tarjeta|código postal|referencia|billete|extensión|factura|reserva|vuelo|habitación|contraseña)"
    called = r"(?i:llam(?:a|e|ar|en)(?: al)?|teléfono|tel\.?|marque|marca|móvil|fax|número)"
    versioned = r"(?:(?i:versión)|Python|iOS|Android|Windows|macOS|Java)"
    year_after = r"(?i:en|desde|hasta|año|de|del)"
    not_version = r"(?!\d{1,3}(?:\.\d{3})+(?!\d))"
    of, of_year = "de", "del?"
    half = "medio"
    is_ = "es"
    measures = r"(?:taza|hora|cucharada|cucharadita|botella|docena|kilo|litro|metro)\b"
    ordinal_pattern = r"(?<![\p{L}\p{N}.,])(?P<n>\d{1,3})\.?(?P<end>[ºªoa]|er|ra|ro|do|da)(?![\p{L}\p{N}])"
    hour_pattern = r"\s?(?:[aApP]\.\s?[mM]\.|[aApP][mM]\b)"
    after_time = r"\s?(?:[aApP]\.\s?[mM]\.|[aApP][mM]\b|h\b)"

    def day(self, day: int, before: str) -> str:
        return "primero" if day == 1 else self.numbers.integer(day)

    def date(self, day: int, month: int, year: int | None, before: str) -> str:
        tail = "" if year is None else f" de {self.year(year)}"
        return f"{self.day(day, before)} de {self.months[month - 1]}{tail}"

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        said = self.numbers.integer(hours, "feminine")
        if minutes:
            said += f" {'cero ' if minutes < 10 else ''}{self.numbers.integer(minutes)}"
        half = after.strip().lower()[:1]
        return f"{said} {'de la mañana' if half == 'a' else 'de la tarde'}" if half in ("a", "p") else said

    def whole_and_cents(self, whole: str, cents: str, currency: Currency) -> str:
        return f"{self.counted(whole, currency.noun)} con {self.counted(cents, currency.cent or currency.noun)}"

    def large_amount(self, written: str, magnitude: str, currency: Currency) -> str:
        of = " de" if self.magnitudes[magnitude].endswith(("millones", "millón")) else ""
        return f"{self.magnitude(written, magnitude)}{of} {currency.noun.many}"

    def plain(self, written: str, after: str) -> str:
        feminine = _FEMININE_NOUN.match(after)
        return self.numbers.words(written, "feminine" if feminine else "before_noun" if _NOUN.match(after) else "")

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        if (top, bottom) == (1, 2):
            return f"{'media' if noun.endswith('a') else 'medio'} {noun}" if noun else "un medio"
        names = {
            2: "medio",
            3: "tercio",
            4: "cuarto",
            5: "quinto",
            6: "sexto",
            7: "séptimo",
            8: "octavo",
            9: "noveno",
            10: "décimo",
        }
        name = names.get(bottom, f"{self.numbers.integer(bottom)}avo")
        said = f"{self.numbers.integer(top, 'before_noun')} {name if top == 1 else name + 's'}"
        return f"{said} de {noun}" if noun else said

    def ordinal(self, match: Match) -> str | None:
        said = self.numbers.integer(int(match["n"]), "ordinal")
        return (
            f"{said.removesuffix('o')}a"
            if match["end"] in ("ª", "a", "ra", "da")
            else said.removesuffix("o")
            if match["end"] == "er"
            else said
        )

    def range(self, first: str, last: str, before: str) -> str:
        of = "" if regex.search(r"\b(?:de|entre|desde)\s$", before) else "de "
        return f"{of}{first} a {last}"
