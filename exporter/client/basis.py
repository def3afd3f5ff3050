"""Basis of a run's numbers: measurement methods of its devices, and its carbon intensity."""

from collections.abc import Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]
WORLD = "WORLD"
ZONE, GRAMS, PUE = (
    f"EMISSIONS_EXPORTER_CONVERT_{name}" for name in ("ZONE", "GRAMS_PER_KWH", "PUE")
)
ALSO = {"UK": "GB", "EL": "GR"}
ALPHA_3 = 3
TOLERANCE = 1e-6


def basis(record: Record) -> str:
    """Return one line such as `cpu estimated, gpu counter; 473 g/kWh (WORLD)`."""
    parts = {f"{part['device']} {part['method']}" for part in record.get("parts", ())}
    uses = {f"{use['grams_per_kwh']:g} g/kWh ({use['zone']})" for use in _converted_uses(record)}
    return "; ".join(", ".join(sorted(each)) for each in (parts, uses) if each)


def are_grams_unknown(record: Record) -> bool:
    """Whether there is energy, and none of it has a carbon intensity."""
    has_uses = bool(record.get("energy_uj") and record.get("intensity"))
    return has_uses and not _converted_uses(record)


def is_world(record: Record) -> bool:
    """Whether the emissions are based on the world average alone."""
    return {use["zone"] for use in _converted_uses(record)} == {WORLD}


def ignored_settings(environment: Mapping[str, str], record: Record) -> list[str]:
    """Return warnings about settings in this program's environment that the daemon does not use.

    A daemon reads its environment when it starts. The daemon of the run may have started earlier,
    or as another user.
    """
    return [
        f"{setting} has no effect: a daemon reads it when it starts, and the daemon that measured "
        f"this run uses other values ({basis(record)}); configure that daemon, or wait until it "
        "has exited: a private daemon does so 30 s after its last run"
        for setting in _ignored(environment, record)
    ]


def _ignored(environment: Mapping[str, str], record: Record) -> Iterator[str]:
    uses = _converted_uses(record)
    if not uses:
        return
    for name, key in ((GRAMS, "grams_per_kwh"), (PUE, "pue")):
        wanted = _number(environment.get(name, ""))
        if wanted is not None and not any(_is_close(wanted, use[key]) for use in uses):
            yield f"{name}={environment[name]}"
    zone = environment.get(ZONE, "")
    is_fixed = GRAMS in environment
    if zone and not is_fixed and not any(_may_match(zone, use["zone"]) for use in uses):
        yield f"{ZONE}={zone}"


def _converted_uses(record: Record) -> list[Record]:
    return [use for use in record.get("intensity", ()) if use["zone"] is not None]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


def _may_match(wanted: str, zone: str) -> bool:
    """Whether `zone` may be the wanted zone, under another name or as a part of it."""
    wanted = ALSO.get(wanted.upper(), wanted.upper())
    if wanted == zone.upper():
        return True
    if zone == WORLD:
        return False
    is_alpha_3 = len(wanted) == ALPHA_3 and wanted.isalpha()
    return is_alpha_3 or wanted[:2] == zone.upper()[:2]
