"""Renders an estimate: result, inputs, equivalents and greener regions."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from exporter import __version__
from exporter.estimate.estimate import Estimate, format_carbon, format_energy, format_exact
from exporter.estimate.hardware import Hardware
from exporter.estimate.name_matching import joined_names
from exporter.estimate.region import Region
from exporter.report.document import Document, Section, Table

GRAMS_PER_POUND = Fraction("453.59237")
KM_PER_MILE = Fraction("1.609344")
SOURCE = "US EPA, greenhouse gas equivalencies, 2020"


class Equivalent(NamedTuple):
    """An activity that emits or binds a known amount of CO2 equivalent."""

    key: str
    text: str
    """Text after the amount."""
    grams: Fraction
    """Grams of CO2 equivalent of one unit."""
    source: str
    """Source with its year."""


EQUIVALENTS = (
    Equivalent(
        "car_km",
        "km driven by an average passenger vehicle",
        398 / KM_PER_MILE,
        f"{SOURCE}: 398 g per mile",
    ),
    Equivalent(
        "coal_kg",
        "kg of coal burned",
        905 / GRAMS_PER_POUND * 1_000,
        f"{SOURCE}: 905 g per pound",
    ),
    Equivalent(
        "tree_seedlings",
        "tree seedlings grown for ten years, which bind as much",
        Fraction(60_000),
        f"{SOURCE}: 60 kg each",
    ),
)


FEW_DIGITS = 3
"""Significant digits of equivalents, which are only illustrations."""
EXCLUDED_FROM_ESTIMATE = (
    "everything except the named hardware: other processors, memory, network, storage, manufacture"
)


def estimate_document(estimate: Estimate, *, has_advice: bool = False) -> Document:
    """Return the estimate as a document, for all formats except JSON.

    `has_advice` adds which flags make it more exact.
    """
    return Document(
        "Estimate of energy and emissions",
        _summary(estimate),
        (
            Section("Result", tuple(_result(estimate))),
            Section("Inputs", tuple(_inputs(estimate, has_advice=has_advice))),
            Section("Equivalents", table=_equivalents_table(estimate)),
            *_greener(estimate),
        ),
    )


def estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON; numbers are the floats nearest to the exact values."""
    request, part, place = estimate.request, estimate.part, estimate.place
    return {
        "version": 1,
        "hardware": _hardware_to_json(part.hardware),
        "hardware_could_be": [_hardware_to_json(other) for other in part.others],
        "count": request.devices,
        "hours": float(request.hours),
        "utilization": float(request.utilization),
        "pue": float(request.pue),
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
    """Return the result in one sentence."""
    request, place = estimate.request, estimate.place.region
    where = f" in {place.label}" if place.code else ""
    hardware, hours = estimate.part.hardware.name, format_exact(request.hours)
    return (
        f"{request.devices} \u00d7 {hardware} for {hours} h{where} are estimated to use "
        f"{format_energy(estimate.facility_kwh)} of electricity and "
        f"to emit {format_carbon(estimate.carbon_grams)} of CO2 equivalent, at "
        f"{format_exact(place.grams_per_kwh)} g/kWh."
    )


def _result(estimate: Estimate) -> Iterator[tuple[str, str]]:
    yield "energy", format_energy(estimate.energy_kwh, estimate.facility_kwh)
    if estimate.request.pue != 1:
        yield "with PUE", f"{format_energy(estimate.facility_kwh)}, including cooling and supply"
    yield "emitted", f"{format_carbon(estimate.carbon_grams)} CO2eq"


def _inputs(estimate: Estimate, *, has_advice: bool) -> Iterator[tuple[str, str]]:
    request, others = estimate.request, estimate.part.others
    part, place = estimate.part.hardware, estimate.place.region
    yield "hardware", f"{part.name}, {format_exact(part.watts)} W each; {part.source}"
    if part.doubt:
        yield "warning", part.doubt
    if others:
        names = [f"{other.name} ({format_exact(other.watts)} W)" for other in others]
        yield "also matches", joined_names(names)
    at = _at(request.utilization, has_advice=has_advice)
    yield "power", f"{format_exact(estimate.watts)} W in total{at}"
    if misspelled := estimate.place.misspelled:
        yield "region", f"{misspelled!r:.100} taken as {place.name or place.code}"
    yield "intensity", _intensity(place)
    if alike := estimate.place.others:
        yield "also matches", joined_names([other.label for other in alike])
    is_advised = has_advice and request.pue == 1
    hint = "; set --pue to include cooling and supply" if is_advised else ""
    yield "PUE", f"{format_exact(request.pue)}{hint}"
    yield "not included", EXCLUDED_FROM_ESTIMATE
    yield "generated by", f"emissions-exporter {__version__}; nothing was measured"


def _at(utilization: Fraction, *, has_advice: bool) -> str:
    if utilization == 1:
        advice = "; set --utilization to the mean load" if has_advice else ""
        return f", the power limit{advice}"
    return f", {format_exact(utilization * 100)} % of the limit"


def _intensity(place: Region) -> str:
    zone = ", ".join(text for text in (place.label, place.basis) if text)
    return "; ".join(
        filter(None, (f"{format_exact(place.grams_per_kwh)} g/kWh", zone, place.source))
    )


def _equivalents_table(estimate: Estimate) -> Table:
    """Return everyday equivalents with their sources."""
    rows = tuple(
        (format_exact(estimate.carbon_grams / each.grams, FEW_DIGITS), each.text, each.source)
        for each in EQUIVALENTS
    )
    return Table(("amount", "of", "source"), rows, frozenset((0,)))


def _greener(estimate: Estimate) -> Iterator[Section]:
    greener: Sequence[Region] = estimate.place.greener
    if not greener:
        return
    rows = tuple(
        (
            region.label,
            format_exact(region.grams_per_kwh),
            format_carbon(estimate.carbon_grams_in(region), estimate.carbon_grams),
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
