"""English: the words, and how dates, times and fractions are said."""

import regex

from services.tts.normalizer.language import Currency, Language, Match, Noun, Say, table
from services.tts.normalizer.numbers import NumberWords, roman

_ARTICLE = regex.compile(r"\b[Aa]n?\s$")
_NOUN = regex.compile(r"\s\p{Ll}")
_RULERS = (
    "Henry|Elizabeth|Louis|Charles|George|Edward|William|James|Richard|Paul|Pius|Benedict|Napoleon|Frederick|Catherine|Francis"
    "|Philip|Nicholas|Leo|Ramses"
)
_ROMAN = "[IVX]{1,6}"
_CENT = Noun("cent", "cents")


class English(Language):
    """English of the United States."""

    code = "en"
    numbers = NumberWords("en", point="point", minus="minus")
    words = {
        "to": "to", "or": "or", "and": "and", "per": "per", "plus": "plus", "minus": "minus", "times": "times",
        "divided": "divided by", "equals": "equals", "unequal": "is not equal to", "less": "is less than",
        "greater": "is greater than", "at_most": "is less than or equal to", "at_least": "is greater than or equal to",
        "dot": "dot", "at": "at", "slash": "slash", "dash": "dash", "underscore": "underscore", "hashtag": "hashtag",
        "number": "number", "version": "version", "percent": "percent", "about": "about", "approximately": "approximately",
        "plus_minus": "plus or minus", "power": "to the power of", "squared": "squared", "cubed": "cubed",
        "root": "the square root of", "section": "section", "then": "then", "degrees": "degrees", "by": "by",
        "out_of": "out of", "copyright": "copyright", "implies": "so", "pi": "pi", "infinity": "infinity", "sharp": "sharp",
        "point": "point", "ratio": "to", "per_mille": "per mille",
    }  # fmt: skip
    currencies = {
        "$": Currency(Noun("dollar", "dollars"), _CENT),
        "USD": Currency(Noun("dollar", "dollars"), _CENT),
        "US$": Currency(Noun("dollar", "dollars"), _CENT),
        "€": Currency(Noun("euro", "euros"), _CENT),
        "EUR": Currency(Noun("euro", "euros"), _CENT),
        "£": Currency(Noun("pound", "pounds"), Noun("penny", "pence")),
        "GBP": Currency(Noun("pound", "pounds"), Noun("penny", "pence")),
        "¥": Currency(Noun("yen", "yen")),
        "JPY": Currency(Noun("yen", "yen")),
        "₹": Currency(Noun("rupee", "rupees"), Noun("paisa", "paise")),
        "INR": Currency(Noun("rupee", "rupees"), Noun("paisa", "paise")),
        "CHF": Currency(Noun("franc", "francs"), Noun("centime", "centimes")),
        "¢": Currency(_CENT),
    }
    magnitudes = {
        "K": "thousand", "k": "thousand", "M": "million", "B": "billion", "T": "trillion", "bn": "billion", "mn": "million",
        "m": "million", "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion",
    }  # fmt: skip
    units = table("""
        km | kilometer | kilometers
        m | meter | meters
        cm | centimeter | centimeters
        mm | millimeter | millimeters
        mi | mile | miles
        ft ft. | foot | feet
        in. | inch | inches
        yd | yard | yards
        km/h kph kmh | kilometer per hour | kilometers per hour
        mph | mile per hour | miles per hour
        m/s | meter per second | meters per second
        kg | kilogram | kilograms
        g | gram | grams
        mg | milligram | milligrams
        µg mcg | microgram | micrograms
        lb lbs lb. lbs. | pound | pounds
        oz oz. | ounce | ounces
        l L | liter | liters
        ml mL | milliliter | milliliters
        tbsp tbsp. | tablespoon | tablespoons
        tsp tsp. | teaspoon | teaspoons
        °C ℃ | degree Celsius | degrees Celsius
        °F ℉ | degree Fahrenheit | degrees Fahrenheit
        ° | degree | degrees
        s sec sec. | second | seconds
        ms | millisecond | milliseconds
        min min. mins | minute | minutes
        h hr hrs hr. hrs. | hour | hours
        KB kB | kilobyte | kilobytes
        MB | megabyte | megabytes
        GB | gigabyte | gigabytes
        TB | terabyte | terabytes
        Mbps Mbit/s | megabit per second | megabits per second
        Gbps Gbit/s | gigabit per second | gigabits per second
        Hz | hertz | hertz
        kHz | kilohertz | kilohertz
        MHz | megahertz | megahertz
        GHz | gigahertz | gigahertz
        W | watt | watts
        kW | kilowatt | kilowatts
        MW | megawatt | megawatts
        kWh | kilowatt hour | kilowatt hours
        V | volt | volts
        mAh | milliamp hour | milliamp hours
        hp | horsepower | horsepower
        m² m2 | square meter | square meters
        km² km2 | square kilometer | square kilometers
        ft² sqft | square foot | square feet
        m³ m3 | cubic meter | cubic meters
        px | pixel | pixels
        dB | decibel | decibels
        kcal | kilocalorie | kilocalories
        x | times | times
        % | percent | percent
        ‰ | per mille | per mille
    """)
    months = (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    )  # fmt: skip
    month_pattern = (
        r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
        r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
    )
    weekdays = {
        "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
        "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
    }  # fmt: skip
    abbreviations = {
        "Dr.": "Doctor", "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "Gen.": "General",
        "Capt.": "Captain", "Rev.": "Reverend", "Hon.": "Honorable", "Jr.": "Junior", "Sr.": "Senior", "e.g.": "for example",
        "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately", "Approx.": "approximately",
        "Inc.": "Incorporated", "Ltd.": "Limited", "Co.": "Company", "Corp.": "Corporation", "dept.": "department",
        "Dept.": "department", "Ave.": "Avenue", "Blvd.": "Boulevard", "Rd.": "Road", "max.": "maximum", "Max.": "maximum",
        "min.": "minimum", "Min.": "minimum", "est.": "established", "Mt.": "Mount", "Ft.": "Fort", "w/o": "without", "w/": "with",
        "a.k.a.": "also known as", "ca.": "circa", "tel.": "telephone", "Tel.": "telephone", "p.": "page", "pp.": "pages",
        "Fig.": "figure", "fig.": "figure", "incl.": "including", "excl.": "excluding", "misc.": "miscellaneous",
    }  # fmt: skip
    named = (
        r"(?i:code|pin|order|flight|account|card|zip|zip code|confirmation|reference|ticket|extension|ext\.|agent|booking|invoice"
        r"|tracking|serial|case|id|password|gate|ends in|ending in|passport|policy|member|customer|room|suite|apt\.?|apartment|unit|flat|seat|building|block)"
    )
    called = r"(?i:call(?:ed|ing)?|dial|phone|telephone|mobile|fax|text|number is|reach \w+ at|tel\.?)"
    versioned = r"(?:(?i:version|release|v\.)|Python|iOS|Android|Windows|macOS|Node|Ubuntu|Java|Chrome|Firefox|GPT|Llama|Claude)"
    year_after = r"(?i:in|since|by|from|until|till|of|year|before|after|during|around|early|late|mid|to|spring|summer|autumn|fall|winter)"
    month_first = True
    hour_pattern = r"\s?(?:[aApP]\.\s?[mM]\.|[aApP][mM]\b)"
    after_time = r"\s?(?:[aApP]\.\s?[mM]\.|[aApP][mM]\b)|\s?o'clock"
    ordinal_pattern = r"(?P<n>\d{1,9})(?:st|nd|rd|th)\b"

    day_mark = "st|nd|rd|th"
    of = "of"
    date_after = r"(?i:on|by|until|till|before|since|due|dated?)"
    date_words = r"\b(?i:on|and|or|from|to|by|until|every|in|of|since)"
    measures = (
        r"(?:cup|teaspoon|tablespoon|hour|mile|pound|pint|gallon|ounce|inch|liter|litre|bottle|pack|slice|day|minute)\b"
    )
    counted_things = r"(?:(?!(?:was|is|has|as|does|focus)\b)\p{Ll}+s|people|percent|children|more|men|women)\b"
    full_weekdays = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
    not_magnitude = r"(?<!\dm)(?!(?<=[48]K)\s(?:video|TV|monitor|display|resolution|screen|camera|movie))"

    def year(self, year: int) -> str:
        return super().year(year).replace("-hundred", " hundred")

    def day(self, day: int, before: str) -> str:
        return self.numbers.integer(day, "ordinal")

    def date(self, day: int, month: int, year: int | None, before: str) -> str:
        tail = "" if year is None else f", {self.year(year)}"
        return f"{self.months[month - 1]} {self.day(day, before)}{tail}"

    def day_first(self, day: int, month: int, year: int | None, before: str) -> str:
        the = "" if before.lower().rstrip().endswith(" the") or before.lower().strip() == "the" else "the "
        tail = "" if year is None else f", {self.year(year)}"
        return f"{the}{self.day(day, before)} of {self.months[month - 1]}{tail}"

    def time(self, hours: int, minutes: int | None, after: str) -> str:
        half = after.strip().lower()[:1].replace("o", "")
        said = self.numbers.integer(hours)
        if minutes:
            said += f" oh {self.numbers.integer(minutes)}" if minutes < 10 else f" {self.numbers.integer(minutes)}"
        elif not half:
            said += " o'clock" if hours else " hours"
        return f"{said} {half.upper()} M" if half else said

    def fraction(self, top: int, bottom: int, noun: str) -> str:
        article = "an" if noun[:1] in tuple("aeiou") or noun == "hour" else "a"
        if noun and (top, bottom) == (1, 2):
            return f"half {article} {noun}"
        ordinal = self.numbers.integer(bottom, "ordinal")
        one, many = {2: ("half", "halves"), 4: ("quarter", "quarters")}.get(bottom, (ordinal, f"{ordinal}s"))
        said = f"{self.numbers.integer(top)} {one if top == 1 else many}"
        return f"{said} of {article} {noun}" if noun else said

    def mixed(self, whole: str, top: int, bottom: int) -> str:
        parts = self.fraction(top, bottom, "")
        return f"{self.numbers.words(whole)} and {'a' + parts.removeprefix('one') if top == 1 else parts}"

    def attributive(self, before: str, after: str) -> bool:
        return _ARTICLE.search(before) is not None and _NOUN.match(after) is not None

    def more_rules(self) -> list[tuple[str, Say]]:
        return [
            (r"(?<![\w.,])(?:(?P<c>1[1-9]|20)|['\u2019])?(?P<n>\d0)s\b", self._decade),
            (r"(?<![\w.,])(?P<f>\d)['\u2032\u2019](?P<n>\d{1,2})(?:[\"\u2033\u201d]|\b)", self._feet),
            (rf"(?<=\b(?:War|[Cc]hapter|[Pp]art|[Vv]olume|[Pp]hase|[Tt]ype|[Aa]ct|[Ss]ection|Super Bowl|Class|Stage)\s)(?P<n>{_ROMAN})\b",
             lambda match: self.numbers.integer(roman(match["n"]))),
            (rf"(?<=\b(?:{_RULERS})\s)(?P<n>{_ROMAN})\b",
             lambda match: f"the {self.numbers.integer(roman(match['n']), 'ordinal')}"),
            (r"(?<=\p{Lu}\p{Ll}+\s)St\.", lambda match: "Street"),
            (r"\bSt\.(?=\s\p{Lu})", lambda match: "Saint"),
            (r"\b1-(?P<n>\d{3})-(?=\p{Lu}{3,})", lambda match: f"one, {self.numbers.digits(match['n'])}, "),
            (r"\b[Nn]os?\.\s?(?=\d)", lambda _: "number "),
        ]  # fmt: skip

    def _decade(self, match: Match) -> str:
        if match["n"] == "00" and match["c"]:
            return f"{self.numbers.integer(int(match['c']))} hundreds"
        tens = self.numbers.integer(int(match["n"]))
        decade = f"{tens.removesuffix('y')}ies" if tens.endswith("y") else f"{tens}s"
        return f"{self.numbers.integer(int(match['c']))} {decade}" if match["c"] else decade

    def _feet(self, match: Match) -> str:
        return f"{self.numbers.integer(int(match['f']))} foot {self.numbers.integer(int(match['n']))}"


class BritishEnglish(English):
    """English of the other countries: the day comes first."""

    month_first = False
    units = {
        written: Noun(regex.sub("(met|lit)er", r"\1re", noun.one), regex.sub("(met|lit)er", r"\1re", noun.many))
        for written, noun in English.units.items()
    }

    def date(self, day: int, month: int, year: int | None, before: str) -> str:
        return self.day_first(day, month, year, before)
