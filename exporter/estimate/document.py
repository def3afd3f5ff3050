"""An estimate in words: what it comes to, what it was made of, and where it would be less."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from exporter import __version__
from exporter.estimate.equivalents import EQUIVALENTS
from exporter.estimate.estimate import Estimate
from exporter.estimate.hardware import Hardware
from exporter.estimate.names import listed
from exporter.estimate.numbers import carbon, energy, spelled
from exporter.estimate.region import Region
from exporter.report.document import Document, Section, Table

FEW_DIGITS = 3
"""Of what is only an illustration."""
OUTSIDE = "everything but the hardware named: other processors, memory, network, storage, making it"


def document(estimate: Estimate) -> Document:
    """All of it, for every form but JSON."""
    return Document(
        "Estimate of energy and emissions",
        _summary(estimate),
        (
            Section("Result", tuple(_result(estimate))),
            Section("Made of", tuple(_made_of(estimate))),
            Section("As much as", table=_as_much(estimate)),
            *_greener(estimate),
        ),
    )


def to_json(estimate: Estimate) -> dict[str, Any]:
    """The same for programs; numbers are the nearest to the exact ones."""
    asked, part, place = estimate.asked, estimate.part, estimate.place
    return {
        "version": 1,
        "hardware": _hardware_to_json(part.hardware),
        "hardware_could_be": [_hardware_to_json(other) for other in part.others],
        "count": asked.devices,
        "hours": float(asked.hours),
        "utilization": float(asked.utilization),
        "pue": float(asked.pue),
        "region": _region_to_json(place.region),
        "region_could_be": [_region_to_json(other) for other in place.others],
        "power_watts": float(estimate.watts),
        "energy_kwh": float(estimate.energy_kwh),
        "facility_kwh": float(estimate.facility_kwh),
        "carbon_grams": float(estimate.carbon_grams),
        "equivalents": {
            each.key: {"amount": float(estimate.carbon_grams / each.grams), "source": each.source}
            for each in EQUIVALENTS
        },
        "greener": [
            {**_region_to_json(each), "carbon_grams": float(estimate.carbon_grams_in(each))}
            for each in place.greener
        ],
    }


def _summary(estimate: Estimate) -> str:
    """One sentence that can be quoted."""
    asked, place = estimate.asked, estimate.place.region
    where = f" in {place.shown}" if place.code else ""
    return (
        f"{asked.devices} \u00d7 {estimate.part.hardware.name} for {spelled(asked.hours)} h{where} "
        f"are estimated to use {energy(estimate.facility_kwh)} of electricity and to emit "
        f"{carbon(estimate.carbon_grams)} of CO2 equivalent, at "
        f"{spelled(place.grams_per_kwh)} g/kWh."
    )


def _result(estimate: Estimate) -> Iterator[tuple[str, str]]:
    yield "energy", energy(estimate.energy_kwh, estimate.facility_kwh)
    if estimate.asked.pue != 1:
        yield "with PUE", f"{energy(estimate.facility_kwh)}: cooling and supply included"
    yield "emitted", f"{carbon(estimate.carbon_grams)} CO2eq"


def _made_of(estimate: Estimate) -> Iterator[tuple[str, str]]:
    asked, others = estimate.asked, estimate.part.others
    part, place = estimate.part.hardware, estimate.place.region
    yield "hardware", f"{part.name}, {spelled(part.watts)} W each; {part.source}"
    if part.doubt:
        yield "doubtful", part.doubt
    if others:
        names = [f"{other.name} ({spelled(other.watts)} W)" for other in others]
        yield "it could be", listed(names)
    yield "power", f"{spelled(estimate.watts)} W in all{_at(asked.utilization)}"
    yield "intensity", _intensity(place)
    if alike := estimate.place.others:
        yield "as in", listed([other.shown for other in alike])
    unset = "; --pue counts cooling and supply" if asked.pue == 1 else ""
    yield "PUE", f"{spelled(asked.pue)}{unset}"
    yield "not in it", OUTSIDE
    yield "made by", f"emissions-exporter {__version__}; nothing was measured"


def _at(utilization: Fraction) -> str:
    if utilization == 1:
        return ", the limit all the time; work draws less, which --utilization says"
    return f", {spelled(utilization * 100)} % of the limit"


def _intensity(place: Region) -> str:
    told = ", ".join(text for text in (place.shown, place.basis) if text)
    return "; ".join(filter(None, (f"{spelled(place.grams_per_kwh)} g/kWh", told, place.source)))


def _as_much(estimate: Estimate) -> Table:
    """Things that people know, and who says so."""
    rows = tuple(
        (spelled(estimate.carbon_grams / each.grams, FEW_DIGITS), each.text, each.source)
        for each in EQUIVALENTS
    )
    return Table(("amount", "of", "source"), rows, frozenset((0,)))


def _greener(estimate: Estimate) -> Iterator[Section]:
    greener: Sequence[Region] = estimate.place.greener
    if not greener:
        return
    rows = tuple(
        (
            region.shown,
            spelled(region.grams_per_kwh),
            carbon(estimate.carbon_grams_in(region), estimate.carbon_grams),
            f"{_saved_percent(estimate, region):.1f} %",
        )
        for region in greener
    )
    head = ("region", "g/kWh", "CO2eq", "saved")
    yield Section(
        f"Greener regions of {estimate.place.region.provider}",
        table=Table(head, rows, frozenset((1, 2, 3))),
    )


def _saved_percent(estimate: Estimate, region: Region) -> float:
    return float(100 - 100 * region.grams_per_kwh / estimate.place.region.grams_per_kwh)


def _hardware_to_json(hardware: Hardware) -> dict[str, Any]:
    return {
        "name": hardware.name,
        "watts": float(hardware.watts),
        "source": hardware.source,
        "doubt": hardware.doubt or None,
    }


def _region_to_json(region: Region) -> dict[str, Any]:
    return {
        "code": region.code or None,
        "name": region.name or None,
        "grams_per_kwh": float(region.grams_per_kwh),
        "basis": region.basis or None,
        "source": region.source,
    }
