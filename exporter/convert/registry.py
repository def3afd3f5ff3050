"""Opens the chain of intensities that the settings ask for."""

from collections.abc import Callable
from typing import NamedTuple

from exporter.clock import Clock
from exporter.convert.chain import Chain
from exporter.convert.sources.file import IntensityFile
from exporter.convert.sources.static import static
from exporter.convert.sources.table import table, world
from exporter.model.intensity import Accounting, Basis
from exporter.model.workload import CollectorState

UNSTATED_ZONE = "unstated"


class OpenedChain(NamedTuple):
    """The chain and what keeps it fresh."""

    chain: Chain
    refresh: tuple[Callable[[], None], ...] = ()
    """For a worker: each may block, none raises."""
    states: Callable[[], tuple[CollectorState, ...]] = tuple
    """How the sources that are read again and again fared at their last look."""
    notes: tuple[str, ...] = ()
    """What a person should know from the start."""


def open_chain(
    *,
    zone: str,
    grams_per_kwh: float | None,
    basis: str,
    accounting: str,
    source: str,
    file: str,
    file_max_age_seconds: float,
    pue: float,
    clock: Clock,
) -> OpenedChain:
    """A number of one's own; else the file, then the zone's table; else the world average.

    The arguments are the settings of the section `convert`. The world average is used only where
    neither a zone nor anything else is set. Raises ConfigError.
    """
    zone = zone.strip()
    if grams_per_kwh is not None:
        own = static(
            grams_per_kwh,
            zone=zone or UNSTATED_ZONE,
            basis=Basis(basis),
            accounting=Accounting(accounting),
            source=source,
        )
        unused = ("convert.file is not read: convert.grams_per_kwh goes before it",) if file else ()
        return OpenedChain(Chain([own], pue), notes=unused)
    if file:
        followed = IntensityFile(
            file,
            zone=zone or UNSTATED_ZONE,
            basis=Basis(basis),
            accounting=Accounting(accounting),
            source=source,
            max_age_seconds=file_max_age_seconds,
            clock=clock,
        )
        chain = Chain([followed, table(zone)] if zone else [followed], pue)
        return OpenedChain(
            chain,
            refresh=(followed.refresh,),
            states=lambda: (followed.state(),),
            notes=tuple(
                f"{step.name} never stands in for the file: the file counts "
                f"{' '.join(followed.kind)}, it counts {' '.join(step.kind)}"
                for step in chain.left_out
            ),
        )
    if zone:
        return OpenedChain(Chain([table(zone)], pue))
    chain = Chain([world()], pue)
    return OpenedChain(chain, notes=(chain.grid(clock.wall()).why,))
