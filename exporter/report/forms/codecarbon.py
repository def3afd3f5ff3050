"""Record as a row of CodeCarbon's emissions.csv, in its columns and units.

Kilograms, kilowatt hours and watts including the PUE, GiB, local time without a zone. Unknown
values are empty, and unknown emissions nan.
"""

import csv
import io
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from exporter import __version__, formatting, units
from exporter.convert.zones import UNKNOWN_LOCATION, ZoneLocation, locate_zone
from exporter.report import quantities
from exporter.report.inner import include_tasks

Record = Mapping[str, Any]
Row = dict[str, str | float | int]
COLUMNS = (
    *("timestamp", "project_name", "run_id", "experiment_id", "duration", "emissions"),
    *("emissions_rate", "cpu_power", "gpu_power", "ram_power", "cpu_energy", "gpu_energy"),
    *("ram_energy", "energy_consumed", "water_consumed", "country_name", "country_iso_code"),
    *("region", "cloud_provider", "cloud_region", "os", "python_version", "codecarbon_version"),
    *("cpu_count", "cpu_model", "gpu_count", "gpu_model", "longitude", "latitude"),
    *("ram_total_size", "tracking_mode", "cpu_utilization_percent", "gpu_utilization_percent"),
    *("ram_utilization_percent", "ram_used_gb", "on_cloud", "pue", "wue"),
)
VERSION_PREFIX = "emissions-exporter"
"""Prefix of the version in rows written by this exporter."""
DEVICE_COLUMNS = {"cpu": "cpu", "gpu": "gpu", "ram": "dram"}
"""Prefixes of CodeCarbon's columns, and the corresponding devices."""
EXPERIMENT_COLUMN = "experiment_id"


class MachineFacts(NamedTuple):
    """Facts about the measured program's machine that a record does not contain."""

    os: str = ""
    python_version: str = ""
    cpu_count: int | str = ""
    """Hardware threads."""
    cpu_model: str = ""
    ram_total_gib: float | str = ""


UNKNOWN_MACHINE = MachineFacts()


class ConversionOverrides(NamedTuple):
    """Conversion factors that replace the daemon's; None keeps the daemon's."""

    grams_per_kwh: float | None = None
    pue: float | None = None
    zone: str | None = None
    litres_per_kwh: float = 0.0
    """Water in litres per kilowatt hour of the facility (CodeCarbon's WUE)."""


NO_OVERRIDES = ConversionOverrides()


def csv_document(record: Record) -> str:
    """Return a CSV file with one row; that of a tracker with tasks includes them."""
    return csv_rows([include_tasks(record)])


def csv_rows(records: Iterable[Record]) -> str:
    """Return a CSV file with a row for each record."""
    return csv_text([COLUMNS, *(csv_row(each).values() for each in records)]).removesuffix("\n")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Render rows as CSV."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(map(formatting.csv_cell, row) for row in rows)
    return lines.getvalue()


def csv_row(
    record: Record, facts: MachineFacts = UNKNOWN_MACHINE, price: ConversionOverrides = NO_OVERRIDES
) -> Row:
    """Return the columns of a record, in order."""
    duration_seconds = record["duration_seconds"]
    pue = _pue(record) if price.pue is None else price.pue
    kwh = {device: each * pue for device, each in quantities.kwh_by_device(record).items()}
    facility_kwh = quantities.energy_kwh(record) * pue
    kilograms = _kilograms(record, price, pue)
    where = _where(record, price)
    imported_gpus, imported_cpu = quantities.imported_models(record)
    return {
        "timestamp": _local(record["at"] if record["ended"] is None else record["ended"]),
        "project_name": record.get("name") or record["run_id"],
        "run_id": record["run_id"],
        "experiment_id": _experiment(record),
        "duration": duration_seconds,
        "emissions": kilograms,
        "emissions_rate": kilograms / duration_seconds if duration_seconds > 0 else 0.0,
        **{
            f"{name}_power": _watts(kwh.get(device, 0.0), duration_seconds)
            for name, device in DEVICE_COLUMNS.items()
        },
        **{f"{name}_energy": kwh.get(device, 0.0) for name, device in DEVICE_COLUMNS.items()},
        "energy_consumed": facility_kwh,
        "water_consumed": facility_kwh * price.litres_per_kwh,
        "country_name": where.country_name,
        "country_iso_code": where.country,
        "region": where.region,
        "cloud_provider": where.cloud_provider,
        "cloud_region": where.cloud_region,
        "os": facts.os,
        "python_version": facts.python_version,
        "codecarbon_version": f"{VERSION_PREFIX} {__version__}",
        "cpu_count": facts.cpu_count,
        "cpu_model": facts.cpu_model or next(iter(_models(record, "cpu")), "") or imported_cpu,
        "gpu_count": quantities.imported_gpu_count(record)
        or len({p["id"] for p in record["parts"] if p["device"] == "gpu"}),
        "gpu_model": "".join(f"{n} x {model}" for model, n in _models(record, "gpu").items())
        or imported_gpus,
        "longitude": "",
        "latitude": "",
        "ram_total_size": facts.ram_total_gib,
        "tracking_mode": "machine" if record.get("scope") == "machine" else "process",
        "cpu_utilization_percent": "",
        "gpu_utilization_percent": "",
        "ram_utilization_percent": "",
        "ram_used_gb": "",
        "on_cloud": "Y" if where.cloud_provider else "N",
        "pue": pue,
        "wue": price.litres_per_kwh,
    }


def _pue(record: Record) -> float:
    """Return the energy of the facility per energy of the machine; 1 without energy."""
    kwh = quantities.energy_kwh(record)
    return quantities.facility_kwh(record) / kwh if kwh else 1.0


def _kilograms(record: Record, price: ConversionOverrides, pue: float) -> float:
    if price.grams_per_kwh is not None:
        grams = quantities.energy_kwh(record) * pue * price.grams_per_kwh
        return grams / units.GRAMS_PER_KG
    if price.pue is None:
        return quantities.carbon_kg(record)
    return quantities.carbon_kg(record) * price.pue / quantities.mean_pue(record)


def _watts(kwh: float, duration_seconds: float) -> float:
    if duration_seconds <= 0:
        return 0.0
    return kwh * units.WATTS_PER_KW * units.SECONDS_PER_HOUR / duration_seconds


def _experiment(record: Record) -> str:
    labels = record.get("labels") or {}
    return str(labels.get(EXPERIMENT_COLUMN) or labels.get("group") or record["job_id"])


def _models(record: Record, device: str) -> dict[str, int]:
    """Return the number of devices of each known model of a kind."""
    ids: dict[str, set[str]] = {}
    for part in record["parts"]:
        model = str(part.get("model", "")).partition(quantities.ASSUMED_MODEL_SUFFIX)[0]
        if part["device"] == device and model:
            ids.setdefault(model, set()).add(part["id"])
    return {model: len(devices) for model, devices in ids.items()}


def _where(record: Record, price: ConversionOverrides) -> ZoneLocation:
    zones = quantities.zones_by_energy(record) if price.zone is None else [price.zone]
    return locate_zone(zones[0]) if zones else UNKNOWN_LOCATION


def _local(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(wall))
