"""Bars, one for each run: grams with their idle part, and grams for so many units."""

from collections.abc import Sequence

from exporter import human
from exporter.markup import Markup, spell, tag
from exporter.report.leaderboard import words
from exporter.report.leaderboard.ranking import Question, Row
from exporter.report.leaderboard.servings import counting


def grams_bars(rows: Sequence[Row]) -> list[Markup]:
    """What runs emitted, with the part of it that devices held idle did."""
    shown = [row for row in rows if row.entry.carbon_ng > 0]
    most = max((row.entry.grams for row in shown), default=0.0)
    scale = human.carbon_scale(row.entry.carbon_ng for row in shown)
    found = []
    for row in shown:
        entry = row.entry
        length = 100 * entry.grams / most
        idle = length * (entry.held_share or 0.0)
        held = f", {words.held(entry)} held idle" if entry.held_uj else ""
        emitted = words.carbon(entry, scale)
        said = f"{row.label}: {emitted} CO2eq{held}"
        parts = [(0.0, length - idle, "active"), (length - idle, idle, "idle")]
        found.append(_bar(row, parts, said, f"{emitted}{held}"))
    return found


def unit_bars(rows: Sequence[Row], asked: Question) -> list[Markup]:
    """What runs emitted for so many of the units that they counted, the least first.

    A line goes from the least to the most where several runs tell it.
    """
    shown = [(row.grams_per_units, row) for row in rows if row.grams_per_units is not None]
    most = max((max([grams, *(row.spread or ())]) for grams, row in shown), default=0.0)
    scale = words.units_scale(rows)
    found = []
    for grams, row in sorted(shown, key=lambda each: each[0]):
        length = 100 * grams / most if most else 0.0
        text = words.grams_for_units(row, scale)
        runs = counting(row.entry, asked.unit)
        counted = human.number(sum(run.units[asked.unit] for run in runs))
        said = f"{row.label}: {text} {words.per_units(asked)}, of {counted} counted"
        spread = [100 * end / most for end in row.spread] if row.spread and most else []
        found.append(_bar(row, [(0.0, length, "active")], said, text, spread))
    return found


def _bar(
    row: Row,
    parts: Sequence[tuple[float, float, str]],
    said: str,
    text: str,
    spread: Sequence[float] = (),
) -> Markup:
    """A line with a name, a bar of parts (begin, length in percent, class), and a value.

    `spread` is where a line within the bar begins and ends.
    """
    ends = {f"x{number}": f"{spell(end)}%" for number, end in enumerate(spread, 1)}
    drawing = tag(
        "svg",
        tag("title", said),
        *(
            tag("rect", x=f"{spell(begin)}%", width=f"{spell(length)}%", height="100%", class_=kind)
            for begin, length, kind in parts
            if length > 0
        ),
        tag("line", **ends, y1="50%", y2="50%", class_="spread") if ends else "",
        class_="bar",
        role="img",
    )
    class_ = "best" if row.is_best else ""
    name = tag("span", row.label, class_=f"name {class_}".strip())
    return tag("li", name, drawing, tag("span", text, class_="n"))
