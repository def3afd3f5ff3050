"""The rows of hardware_tdp.csv for a processor, by its name as the kernel shows it."""

import csv
import re
from collections.abc import Iterator

from exporter import data

TABLE = data.DIRECTORY / "hardware_tdp.csv"
DECORATION = re.compile(
    r"\([^)]*\)"  # trademarks
    r"|@.*|,? ?~?\b\d+(\.\d+)? ?ghz\b"  # the clock rate
    r"|( with| w/| radeon) .*"  # graphics on the same die
    r"|\b\d+(st|nd|rd|th) gen\b"
    r"|\b(\d+|dual|triple|quad|six|eight|twelve|sixteen)-cores?\b"
    r"| 0(?= *@| *$)"  # the first version of a Xeon E5, which is sold without it
)
LONGEST = 200
"""Characters of a name that are read."""
KIND = frozenset(("cpu", "processor"))
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
"""What copying from a web page leaves in a name."""


def plain_name(model: str) -> str:
    """A processor's name without trademarks, generation, core count, clock rate and graphics."""
    shown = INVISIBLE.sub("", model[:LONGEST].casefold())
    text = " ".join(word for word in shown.split() if word not in KIND)
    text = " ".join(DECORATION.sub(" ", text).split())
    text = text.replace(" -", "-")  # from FX(tm)-8350
    text = re.sub(r"\b(i[3579]) (?=\d{3})", r"\1-", text)  # i7 920
    return " ".join(word for word in text.split() if word not in KIND)


def rows_of(model: str) -> Iterator[dict[str, str]]:
    """The rows of processors with the same plain name; none for a name without a number."""
    wanted = plain_name(model)
    numbered = [word for word in wanted.split() if any(map(str.isdigit, word))]
    if not numbered:
        return
    number = max(numbered, key=len)
    with TABLE.open(encoding="utf-8") as file:
        header = next(file)
        lines = (line for line in file if number in line.casefold())
        for row in csv.DictReader(lines, next(csv.reader([header]))):
            if row["type"] == "cpu" and plain_name(row["name"]) == wanted:
                yield row
