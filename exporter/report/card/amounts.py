"""Parsing and formatting of amounts of emissions in cards, including handwritten ones."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from exporter import units

DIGITS = 6
TOLERANCE = 0.02
GRAMS_PER_POUND = units.GRAMS_PER_KWH_OF_LB_PER_MWH * 1e3
SYMBOLS: Mapping[str, float] = {"mg": 1e-3, "g": 1.0, "G": 1.0, "t": 1e6, "T": 1e6, "Mg": 1e6}
"""Case-sensitive units of mass, in grams."""
WORDS: Mapping[str, float] = {
    **dict.fromkeys(("gm", "gms", "gr", "gram", "grams", "gramm", "gramme", "grammes"), 1.0),
    **dict.fromkeys(("kg", "kgs", "kilo", "kilos", "kilogram", "kilograms"), 1e3),
    **dict.fromkeys(("kilogramm", "kilogramme", "kilogrammes"), 1e3),
    **dict.fromkeys(("ton", "tons", "tonne", "tonnes", "tonnen"), 1e6),
    **dict.fromkeys(("metric ton", "metric tons", "metric tonne", "metric tonnes"), 1e6),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), GRAMS_PER_POUND),
}

SPACES = " \u00a0\u2007\u2008\u2009\u202f"
"""Separators of groups of three digits, in addition to apostrophes."""
MARKUP_SPACE = re.compile(
    r"(?<=\d)(?:\\,|\\ |\{~\}|~|&nbsp;|&thinsp;|&#160;|&#8201;|&#8239;|&#x(?:a0|2009|202f);)(?=\w)",
    re.IGNORECASE,
)
"""Spaces in LaTeX and HTML notation."""
GROUPED = rf"\d{{1,3}}(?:[{SPACES}'\u2019]\d{{3}})+(?!\d)(?:[.,]\d+)?"
PLAIN = r"(?:\d(?:[\d,._]*\d)?|\.\d+)"
NUMBER = rf"(?:{GROUPED}|{PLAIN})(?:[eE][-+]?\d{{1,2}}(?!\d))?"
NUMBER_START = r"(?<![\w.,^])"
"""Start of a number that is not part of a name or of a larger number."""
CO2 = r"(?:<sub>2</sub>|[\s_{]*[2\u2082]\}?)?[\s_-]*(?:e(?:q(?:uiv(?:alents?)?)?)?\b)?\.?"
CARBON = rf"[\s_-]*(?:of\s+)?(?:C[O0]{CO2}|carbon(?:\s+dioxide)?(?:\s+equivalents?)?)"
MASS = re.compile(
    rf"(?P<below>(?:<|&lt;|\\textless\{{\}})\s*)?{NUMBER_START}"
    rf"(?:(?P<first>{NUMBER})\s*(?P<link>\u00b1|\+/?-|[-\u2013\u2014]|to\b)\s*)?"
    rf"(?P<number>{NUMBER})\s*(?:in\s+)?"
    rf"(?P<unit>(?i:{'|'.join(sorted(WORDS, key=len, reverse=True))})|mg|Mg|[gt]"
    rf"|[GT](?=\s*(?:of\s+)?C[O0]))"
    r"(?=[\W_]|$|(?i:C[O0][2\u2082_<{]))"
)
RATE = re.compile(rf"(?:{CARBON})?[\s)]*(?:/|\\/|per\b|kWh)", re.IGNORECASE)
LONE_MARK = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
"""Numbers whose separator may be a decimal mark or group digits."""
DECIMAL = re.compile(r"(?<![\w.,])(?:0([.,])\d+|\d+([.,])(?:\d\d?|\d{4,}))(?![.,]?\d)")
"""Numbers whose separator must be a decimal mark."""
HUB_NUMBER = re.compile(r"\d+\.\d+|\d+")


class Mass(NamedTuple):
    """A mass that a text states."""

    text: str
    grams: float
    ranges: tuple[tuple[float, float], ...]
    """Possible ranges in grams, by rounding and by the interpretation of separators."""

    def is_near(self, grams: float) -> bool:
        """Whether it can mean this amount of grams."""
        return any(
            least * (1 - TOLERANCE) <= grams <= most * (1 + TOLERANCE)
            for least, most in self.ranges
        )


def plain_grams(carbon_ng: int) -> str:
    """Format grams without exponent, unit or separators, with six significant digits."""
    grams = Decimal(carbon_ng).scaleb(-9)
    places = max(0, DIGITS - 1 - grams.adjusted())
    text = f"{grams:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_decimal(text: str) -> float:
    """Parse a handwritten number. Raises ValueError.

    The last of points and commas is the decimal mark. Commas alone group digits where three
    follow each; a point alone is the decimal mark.
    """
    return float(_normalize_number(text))


def _normalize_number(text: str) -> str:
    """Return the number in Python's notation."""
    spelled = re.sub(rf"[{SPACES}'\u2019_]", "", text)
    digits, e, exponent = spelled.lower().partition("e")
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        group, mark = (",", ".") if digits.rfind(".") > digits.rfind(",") else (".", ",")
        digits = digits.replace(group, "").replace(mark, ".")
    elif commas:
        is_mark = commas == 1 and (spelled != text or not _is_grouped(digits, ","))
        digits = digits.replace(",", "." if is_mark else "")
    elif points > 1 and _is_grouped(digits, "."):
        digits = digits.replace(".", "")
    return digits + e + exponent


def _is_grouped(digits: str, mark: str) -> bool:
    return re.fullmatch(rf"[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+", digits) is not None


def _interpretations(text: str, marks: frozenset[str]) -> list[str]:
    """Return the possible readings: 16.714 and 16,714 group digits in some languages.

    `marks` are the decimal marks of the numbers around it.
    """
    found = [_normalize_number(text)]
    if LONE_MARK.fullmatch(text):
        mark, other = (".", "") if "." in text else (",", ".")
        if marks == {","} or (mark == "." and not marks):
            found.append(text.replace(mark, other))
    return found


def find_masses(text: str, context: str = "") -> Iterator[Mass]:
    """Yield the masses in a text, excluding rates such as g/kWh.

    `context` is the surrounding text, which shows the meaning of points and commas.
    """
    marks = frozenset(found[1] or found[2] for found in DECIMAL.finditer(context or text))
    spelled = MARKUP_SPACE.sub("\u202f", text)
    for match in MASS.finditer(spelled):
        if RATE.match(spelled, match.end()):
            continue
        try:
            yield _parse_mass(match, marks)
        except ValueError:  # a version or an address, such as 2.5.1
            continue


def _parse_mass(match: re.Match[str], marks: frozenset[str]) -> Mass:
    unit = match["unit"]
    scale = SYMBOLS.get(unit) or WORDS[" ".join(unit.lower().split())]
    spelled = _interpretations(match["number"], marks)
    grams = float(spelled[0]) * scale
    ranges = [_rounding_range(each, scale) for each in spelled]
    first = parse_decimal(match["first"]) * scale if match["first"] else None
    if match["below"]:
        ranges = [(0.0, grams)]
    elif first is not None and match["link"] not in ("-", "\u2013", "\u2014", "to"):
        grams, ranges = first, [(first - grams, first + grams)]
    elif first is not None and first < grams:
        grams, ranges = (first + grams) / 2, [(first, grams)]
    return Mass(match.group().strip(), grams, tuple(ranges))


def _rounding_range(spelled: str, scale: float) -> tuple[float, float]:
    """Return the range of numbers that round to this one."""
    digits, _, exponent = spelled.partition("e")
    half = 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return (float(spelled) - half) * scale, (float(spelled) + half) * scale


def find_amounts(text: str) -> list[tuple[str, float]]:
    """Return the masses in a text, as written and in grams."""
    return [(mass.text, mass.grams) for mass in find_masses(text)]


def hub_value(value: Any) -> float | None:
    """Return the value read by the Hub's threshold filter: the first digits of the text."""
    found = HUB_NUMBER.search(str(value)) if value else None
    return float(found.group()) if found else None
