"""Import of emissions.csv of CodeCarbon 2 and later as runs that have ended."""

import csv
import datetime as dt
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from exporter import formatting, units
from exporter.convert.zones import find_zone
from exporter.errors import ConfigError
from exporter.integrations.codecarbon.csv_validation import (
    BLANK,
    MODES,
    REQUIRED_COLUMNS,
    TOLERANCE,
    TOTAL_ENERGY_COLUMN,
    Cells,
    emissions_error,
    energy_error,
    fill_blank_energy,
    label,
    parse_amount,
    parse_timestamp,
    repair_shifted_row,
    row_pue,
)
from exporter.model.apportion import apportion
from exporter.model.readings import DeviceKind, Method
from exporter.model.workload import SplitMethod
from exporter.report.forms.codecarbon import DEVICE_COLUMNS, VERSION_PREFIX

ORIGIN = "codecarbon"
VERSION, MODE, COUNTRY = "codecarbon_version", "tracking_mode", "country_iso_code"
LABEL_COLUMNS = ("experiment_id", "cpu_model", "gpu_model", "os", VERSION, COUNTRY)
"""Columns that become labels."""
DELIMITERS = ",;\t"
DIGITS = 4
"""Digits to which a mean intensity is rounded, so that runs in the same place have the same one."""
PROCESS_SPLITS = {
    DeviceKind.CPU: SplitMethod.CPU_TIME,
    DeviceKind.DRAM: SplitMethod.MEMORY,
    DeviceKind.GPU: SplitMethod.EXCLUSIVE,
}
"""Splits that CodeCarbon documents for process mode; in machine mode the run has all energy."""


Zones: TypeAlias = Mapping[tuple[str, str, str, str], str]
"""Zone of each location (`_location_columns`); "" if it is in no table."""


class ParsedRow(NamedTuple):
    """Parsed row of a file."""

    number: int
    cells: Cells
    why: str = ""
    """Why its energy is invalid; "" if it is valid."""
    is_repaired: bool = False


class RejectedRow(NamedTuple):
    """A row whose energy is not imported."""

    line: int
    why: str
    run_id: str = ""
    """Run that is not imported because of it; "" if the row has no run id."""
    kwh: float = math.nan
    """Energy in the row; nan if it is not a number."""


class ParsedHistory(NamedTuple):
    """Content of a file."""

    runs: tuple[dict[str, Any], ...]
    """Runs in the daemon's import format, in the order of the file."""
    repaired_lines: tuple[int, ...]
    """Line numbers of rows with shifted cells that were moved back."""
    rejected_rows: tuple[RejectedRow, ...]
    """Rows with invalid energy that may be the last row of a run, which is then not imported."""
    superseded: int
    """Rows of runs that have a later row: CodeCarbon adds one at each flush."""
    exporter_rows: int
    """Number of rows written by this exporter, whose runs are already in the ledger."""
    rows_without_emissions: tuple[tuple[int, str], ...] = ()
    """Lines of runs that are imported without emissions, with the reason."""
    notes: tuple[str, ...] = ()
    """Messages about ignored descriptive cells."""


def read_history(path: str, zone: dt.tzinfo | None = None, node: str = "") -> ParsedHistory:
    """Read the runs of a file; its times are in `zone`, by default this machine's time zone.

    `node` is the machine on which they ran. Raises ConfigError if it is not an emissions.csv.
    """
    rows = list(_read_rows(path))
    lines = [line for line in rows if not line.cells.get(VERSION, "").startswith(VERSION_PREFIX)]
    sound: dict[str, list[ParsedRow]] = {}
    for line in lines:
        if not line.why:
            sound.setdefault(line.cells["run_id"], []).append(line)
    last = {run_id: max(of_run, key=_usage_order) for run_id, of_run in sound.items()}
    doubtful = [(line, _guess_run_id(line, last)) for line in lines if line.why]
    refused = [
        RejectedRow(
            line.number, line.why, run_id, parse_amount(line.cells.get(TOTAL_ENERGY_COLUMN, ""))
        )
        for line, run_id in doubtful
        if run_id not in last or not _is_earlier(line, last[run_id])
    ]
    for each in refused:
        last.pop(each.run_id, None)
    places = {_location_columns(line.cells) for line in last.values()}
    zones = {place: find_zone(*place) for place in places}  # each reads tables from the disk
    return ParsedHistory(
        tuple([_to_run(line.cells, zone, node, zones) for line in last.values()]),
        tuple([line.number for line in lines if line.is_repaired]),
        tuple(refused),
        sum(len(sound[run_id]) - 1 for run_id in last) + len(doubtful) - len(refused),
        len(rows) - len(lines),
        tuple(
            [(line.number, why) for line in last.values() if (why := emissions_error(line.cells))]
        ),
        _notes(last.values(), zones),
    )


def _read_rows(path: str) -> Iterator[ParsedRow]:
    """Yield all rows, each with the error of its energy, if any."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            delimiter = max(DELIMITERS, key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            if error := _header_error(header):
                raise ConfigError(f"{path}: {error}{_energy_of_rows(header, reader)}")
            for row in reader:
                cells = [cell.strip() for cell in row]
                if set(REQUIRED_COLUMNS) <= set(cells):  # several files were put together
                    header = cells
                elif any(cells):
                    yield _parse_row(header, cells, reader.line_num)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; give an emissions.csv of CodeCarbon"
        ) from None
    except csv.Error as error:
        raise ConfigError(f"{path}: is not a CSV file: {error}") from None


def _header_error(header: list[str]) -> str:
    """Return why a file with this header is not imported; "" if it is."""
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if not header:
        return "is empty"
    if "git-lfs" in header[0]:
        return "is a pointer of Git LFS; `git lfs pull` fetches the file"
    if "task_name" in header:
        return (
            "contains the tasks of a run, whose energy is part of the run; import its emissions.csv"
        )
    if missing and any(odd in name for name in header for odd in ("\0", "\ufffd")):
        return "is not a CSV file in UTF-8"
    if missing and {"timestamp", "project_name", "emissions"} <= set(header):
        return (
            f"is of a CodeCarbon before version 2: column {missing[0]} is missing, so that its "
            "rows cannot be told apart or split by device"
        )
    return f"is not an emissions.csv: column {missing[0]} is missing" if missing else ""


def _energy_of_rows(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return the energy in rows that are not imported as text; "" if they have none."""
    if TOTAL_ENERGY_COLUMN not in header:
        return ""
    place = header.index(TOTAL_ENERGY_COLUMN)
    energies = [parse_amount(row[place]) for row in rows if len(row) > place]
    kwh = math.fsum(each for each in energies if not math.isnan(each))
    amount = formatting.energy(kwh * units.MICROJOULES_PER_KWH)
    what = "row has" if len(energies) == 1 else f"{len(energies)} rows have"
    return f". Its {what} {amount}" if kwh else ""


def _parse_row(header: list[str], cells: list[str], number_of: int) -> ParsedRow:
    while len(cells) > len(header) and not cells[-1]:
        cells.pop()
    named = dict(zip(header, cells, strict=False))
    if len(cells) < len(header):
        found = repair_shifted_row(header, cells)
        if found is not None:
            return ParsedRow(number_of, found, is_repaired=True)
        count = len(header) - len(cells)
        return ParsedRow(number_of, named, f"{count} cells are missing, and it is unknown which")
    if len(cells) > len(header):
        return ParsedRow(
            number_of, named, f"the row has {len(cells)} cells, but the header {len(header)}"
        )
    named = dict(fill_blank_energy(named))
    if named["run_id"].lower() in BLANK:  # it would be one run of all rows and files
        named["run_id"] = ""
    return ParsedRow(number_of, named, energy_error(named))


def _usage_order(line: ParsedRow) -> tuple[float, float, int]:
    """Return the sort key that grows from row to row of a run, whose rows are cumulative."""
    return (
        parse_amount(line.cells[TOTAL_ENERGY_COLUMN]),
        parse_amount(line.cells["duration"]),
        line.number,
    )


def _is_earlier(doubtful: ParsedRow, last: ParsedRow) -> bool:
    """Whether an invalid row is certainly covered by the run's last valid row."""
    return (
        doubtful.number < last.number
        and not parse_amount(doubtful.cells.get("duration", ""))
        > parse_amount(last.cells["duration"])
        and not parse_amount(doubtful.cells.get(TOTAL_ENERGY_COLUMN, ""))
        > parse_amount(last.cells[TOTAL_ENERGY_COLUMN]) * (1 + TOLERANCE)
    )


def _guess_run_id(line: ParsedRow, known: Collection[str]) -> str:
    """Return the run of a row with shifted or missing cells; "" if it is unknown."""
    run_id = line.cells.get("run_id", "")
    if run_id in known:
        return run_id
    found = [cell for cell in line.cells.values() if cell in known]
    if run_id and [*line.cells][-1] == "run_id":
        found += [each for each in known if each.startswith(run_id)]
    return found[0] if len(found) == 1 else run_id


def _notes(lines: Iterable[ParsedRow], zones: Zones) -> tuple[str, ...]:
    """Return messages about ignored descriptive cells, with their lines."""
    ignored: dict[str, list[int]] = {}
    for line in lines:
        for what in _ignored(line.cells, zones):
            ignored.setdefault(what, []).append(line.number)
    return tuple(
        [
            f"line {numbers[0]}{f' and {len(numbers) - 1} more' if numbers[1:] else ''}: {what}"
            for what, numbers in ignored.items()
        ]
    )


def _ignored(cells: Cells, zones: Zones) -> Iterator[str]:
    if row_pue(cells) is None:
        yield f"pue {cells['pue']!r:.50} is ignored; the energy is imported unchanged"
    if cells.get(MODE, "") not in ("", *MODES):
        yield f"{MODE} {cells[MODE]!r:.50} is ignored; the run is imported with scope machine"
    if (country := cells.get(COUNTRY, "")) and not zones[_location_columns(cells)]:
        yield f"{COUNTRY} {country!r:.50} is ignored; the zone of the run is unknown"


def _to_run(cells: Cells, zone: dt.tzinfo | None, node: str, zones: Zones) -> dict[str, Any]:
    ended = _end_time(cells["timestamp"], zone)
    overhead = row_pue(cells) or 1.0
    is_machine = cells.get(MODE, "") != "process"
    parts = _parts(cells, overhead, is_machine=is_machine)
    sums = {name: sum(part[name] for part in parts) for name in ("energy_uj", "carbon_ng")}
    project = label(cells.get("project_name", ""))
    labels = {name: label(cells[name]) for name in LABEL_COLUMNS if cells.get(name)}
    return {
        "run_id": cells["run_id"],
        "name": project,
        "labels": {**labels, **({"group": project} if project else {}), **_node_label(node)},
        "scope": "machine" if is_machine else "tree",
        "started": ended - parse_amount(cells["duration"]),
        "ended": ended,
        "parts": parts,
        "intensity": [{**_factor(cells, overhead, zones[_location_columns(cells)]), **sums}],
    }


def _node_label(node: str) -> dict[str, str]:
    return {"node": label(node)} if node else {}


def _end_time(text: str, zone: dt.tzinfo | None) -> float:
    at = parse_timestamp(text)
    assert at is not None, "checked before"
    return (at if at.tzinfo or zone is None else at.replace(tzinfo=zone)).timestamp()


def _parts(cells: Cells, overhead: float, *, is_machine: bool) -> list[dict[str, Any]]:
    """Return the energy of the machine by device, without the PUE; emissions include it."""
    energies_uj = {
        DeviceKind(device): round(
            parse_amount(cells[f"{name}_energy"]) / overhead * units.MICROJOULES_PER_KWH
        )
        for name, device in DEVICE_COLUMNS.items()
    }
    carbon_ng = (
        0
        if emissions_error(cells)
        else round(parse_amount(cells["emissions"]) * units.GRAMS_PER_KG * units.NANOGRAMS_PER_GRAM)
    )
    used = {kind: energy_uj for kind, energy_uj in energies_uj.items() if energy_uj}
    if not used:
        return []
    shares_ng = apportion(carbon_ng, list(used.values()))
    return [
        {
            "device": kind,
            "method": Method.ESTIMATED,
            "split": SplitMethod.EXCLUSIVE if is_machine else PROCESS_SPLITS[kind],
            "energy_uj": energy_uj,
            "carbon_ng": share_ng,
        }
        for (kind, energy_uj), share_ng in zip(used.items(), shares_ng, strict=True)
    ]


def _factor(cells: Cells, overhead: float, zone: str) -> dict[str, Any]:
    """Return the mean intensity of the run; without a zone if its emissions are unknown."""
    if emissions_error(cells):
        return {"zone": None}
    kwh = parse_amount(cells[TOTAL_ENERGY_COLUMN])
    grams = parse_amount(cells["emissions"]) * units.GRAMS_PER_KG
    return {
        "zone": zone or "unknown",
        "source": f"CodeCarbon {label(cells.get(VERSION, ''))}".strip(),
        "grams_per_kwh": round(grams / kwh, DIGITS) if kwh else 0.0,
        "pue": overhead,
    }


def _location_columns(cells: Cells) -> tuple[str, str, str, str]:
    """Return the arguments of `find_zone`; a two-letter country code may be that of a region."""
    country = cells.get(COUNTRY, "")
    return (
        country if re.fullmatch("[A-Z]{3}", country) else "",
        cells.get("region", ""),
        cells.get("cloud_provider", ""),
        cells.get("cloud_region", ""),
    )
