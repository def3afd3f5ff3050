"""Power over the last hour, by the minute, for the small charts of the live page."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias, TypeVar

from exporter import human, units
from exporter.errors import LedgerError, Refused
from exporter.expose.desk import Desk
from exporter.expose.markup import Markup, tag
from exporter.model.readings import Device
from exporter.model.record import Archive, Spell
from exporter.model.runs import RunKey

MINUTE_SECONDS = 60
MINUTES = 60
LATE_SECONDS = 45
"""Until then a minute that is over may not be in the ledger yet."""
WIDTH, HEIGHT = 120, 24

Watts: TypeAlias = tuple[float, ...]
"""One mean power for each minute, the oldest first."""
K = TypeVar("K")


class Charts(NamedTuple):
    """What is drawn. Who used nothing in all of the hour is left out."""

    runs: Mapping[RunKey, Watts] = {}
    devices: Mapping[Device, Watts] = {}


class Historian:
    """Asks the archive once a minute, and has no page wait for the answer."""

    def __init__(self, archive: Archive, questions: Desk) -> None:
        self._archive = archive
        self._questions = questions
        self._minute = 0
        self._charts = Charts()

    def charts(self, wall: float) -> Charts:
        """The last that is known; asks for more if that is old."""
        minute = int(wall - LATE_SECONDS) // MINUTE_SECONDS
        if minute != self._minute:
            self._minute = minute
            with suppress(Refused):  # too many others ask; a chart can wait a minute
                self._questions.begin(lambda: self._look(minute))
        return self._charts

    def _look(self, minute: int) -> None:
        first = minute - MINUTES
        try:
            spells = self._archive.usage(first * MINUTE_SECONDS, minute * MINUTE_SECONDS)
        except LedgerError:
            return  # the page says elsewhere what ails the ledger
        self._charts = Charts(
            _watts(first, [(spell.run, spell) for spell in spells if spell.run is not None]),
            _watts(first, [(spell.device, spell) for spell in spells]),
        )


def _watts(first: int, spells: Iterable[tuple[K, Spell]]) -> dict[K, Watts]:
    found: dict[K, list[float]] = {}
    for key, spell in spells:
        watts = found.setdefault(key, [0.0] * MINUTES)
        index = int(spell.at) // MINUTE_SECONDS - first
        if 0 <= index < MINUTES:
            watts[index] += units.joules(spell.amount.energy_uj) / MINUTE_SECONDS
    return {key: tuple(watts) for key, watts in found.items()}


def chart(watts: Watts | None) -> Markup:
    """The hour as a line over a zero that is always there; nothing where nothing is known."""
    if not watts:
        return Markup("")
    most = max(watts)
    scale = (HEIGHT - 2) / most if most else 0.0
    step = WIDTH / (len(watts) - 1)
    points = " ".join(
        f"{place * step:.0f},{HEIGHT - 1 - value * scale:.1f}" for place, value in enumerate(watts)
    )
    said = f"last hour, at most {human.watts(most)}"
    line = Markup(f'<polyline points="{points}"/>')
    return tag(
        "svg", tag("title", said), line, class_="chart", role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}"
    )
