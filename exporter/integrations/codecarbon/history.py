"""emissions.csv of CodeCarbon, of any version, as runs that have ended."""

import csv
import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple

from exporter import units
from exporter.convert.places import zone_of
from exporter.errors import ConfigError
from exporter.integrations.codecarbon.columns import NEEDED, Cells, moment, number, wrong
from exporter.integrations.codecarbon.shifted import mended
from exporter.model.apportion import apportion
from exporter.model.readings import Kind, Method
from exporter.model.workload import Split
from exporter.report.forms.codecarbon import DEVICES, WRITER

ORIGIN = "codecarbon"
KEPT = ("experiment_id", "cpu_model", "gpu_model", "os", "codecarbon_version")
"""Columns that become labels."""
LABEL_BYTES = 200
DIGITS = 4
"""Of a mean intensity, so that runs of one place have one."""
SPLITS = {Kind.CPU: Split.CPU_TIME, Kind.DRAM: Split.MEMORY, Kind.GPU: Split.EXCLUSIVE}
"""What CodeCarbon says that it does for a process; in machine mode all is the run's."""


class Line(NamedTuple):
    """A row of a file."""

    number: int
    cells: Cells
    is_mended: bool


class Found(NamedTuple):
    """What a file has."""

    runs: tuple[dict[str, Any], ...]
    """As the daemon takes them, in the order of the file."""
    mended: tuple[int, ...]
    """Numbers of the lines whose cells were moved back."""
    refused: tuple[tuple[int, str], ...]
    """Lines that are no runs, and why."""
    superseded: int
    """Rows of runs that have a later row: CodeCarbon adds one at each flush."""
    own: int
    """Rows that this exporter wrote, whose runs it knows."""


def read(path: str, zone: dt.tzinfo | None = None, node: str = "") -> Found:
    """The runs of a file, whose times are those of `zone`; None: of this machine.

    `node` is where they ran. Raises ConfigError for what is no emissions.csv at all.
    """
    refused: list[tuple[int, str]] = []
    last: dict[str, Line] = {}
    rows = own = 0
    moved = []
    for line in _lines(path, refused):
        if line.cells.get("codecarbon_version", "").startswith(WRITER):
            own += 1
            continue
        rows += 1
        if line.is_mended:
            moved.append(line.number)
        run_id = line.cells["run_id"]
        if run_id not in last or _duration(last[run_id]) <= _duration(line):
            last[run_id] = line
    return Found(
        tuple(_run(line.cells, zone, node) for line in last.values()),
        tuple(moved),
        tuple(refused),
        rows - len(last),
        own,
    )


def _lines(path: str, refused: list[tuple[int, str]]) -> Iterator[Line]:
    """The rows that make sense; what is wrong with the others goes to `refused`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            _check_header(path, header)
            for cells in reader:
                if not any(cells):
                    continue
                line, why = _line(header, cells, reader.line_num)
                if line is None:
                    refused.append((reader.line_num, why))
                else:
                    yield line
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; name an emissions.csv of CodeCarbon"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not text in rows of commas: {error}") from None


def _check_header(path: str, header: list[str]) -> None:
    if "task_name" in header:
        raise ConfigError(
            f"{path}: has the tasks of a run, whose energy is in that of the run; import its "
            "emissions.csv"
        )
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise ConfigError(f"{path}: is no emissions.csv: there is no column {missing[0]}")


def _line(header: list[str], cells: list[str], number_of: int) -> tuple[Line | None, str]:
    """The row, or why there is none."""
    if len(cells) < len(header):
        found = mended(header, cells)
        if found is None:
            count = len(header) - len(cells)
            return None, f"{count} cells are missing, and which ones cannot be told"
        return Line(number_of, found, is_mended=True), ""
    if len(cells) > len(header):
        return None, f"there are {len(cells)} cells under {len(header)} names"
    named = dict(zip(header, cells, strict=True))
    why = wrong(named)
    return (None, why) if why else (Line(number_of, named, is_mended=False), "")


def _duration(line: Line) -> float:
    return number(line.cells["duration"])


def _run(cells: Cells, zone: dt.tzinfo | None, node: str) -> dict[str, Any]:
    ended = _ended(cells["timestamp"], zone)
    pue = number(cells.get("pue", "")) if cells.get("pue") else 1.0
    mode = cells.get("tracking_mode") or "machine"
    parts = _parts(cells, pue, is_machine=mode == "machine")
    sums = {name: sum(part[name] for part in parts) for name in ("energy_uj", "carbon_ng")}
    project = _cut(cells.get("project_name", ""))
    labels = {name: _cut(cells[name]) for name in KEPT if cells.get(name)}
    return {
        "run_id": cells["run_id"],
        "name": project,
        "labels": {**labels, **({"group": project} if project else {}), **_known(node)},
        "scope": "machine" if mode == "machine" else "tree",
        "started": ended - number(cells["duration"]),
        "ended": ended,
        "parts": parts,
        "intensity": [{**_factor(cells, pue), **sums}],
    }


def _cut(text: str) -> str:
    return text.replace("\0", "").encode()[:LABEL_BYTES].decode(errors="ignore")


def _known(node: str) -> dict[str, str]:
    return {"node": _cut(node)} if node else {}


def _ended(text: str, zone: dt.tzinfo | None) -> float:
    at = moment(text)
    assert at is not None, "checked before"
    return (at if at.tzinfo or zone is None else at.replace(tzinfo=zone)).timestamp()


def _parts(cells: Cells, pue: float, *, is_machine: bool) -> list[dict[str, Any]]:
    """Energy of the machine by device: the PUE is taken out of it, and stays in the grams."""
    energies_uj = {
        Kind(device): round(number(cells[f"{name}_energy"]) / pue * units.MICROJOULES_PER_KWH)
        for name, device in DEVICES.items()
    }
    carbon_ng = round(number(cells["emissions"]) * units.GRAMS_PER_KG * units.NANOGRAMS_PER_GRAM)
    used = {kind: energy_uj for kind, energy_uj in energies_uj.items() if energy_uj}
    if not used:
        return []
    shares_ng = apportion(carbon_ng, list(used.values()))
    return [
        {
            "device": kind,
            "method": Method.ESTIMATED,
            "split": Split.EXCLUSIVE if is_machine else SPLITS[kind],
            "energy_uj": energy_uj,
            "carbon_ng": share_ng,
        }
        for (kind, energy_uj), share_ng in zip(used.items(), shares_ng, strict=True)
    ]


def _factor(cells: Cells, pue: float) -> dict[str, Any]:
    """The mean of what it was converted with."""
    kwh = number(cells["energy_consumed"])
    grams = number(cells["emissions"]) * units.GRAMS_PER_KG
    country = cells.get("country_iso_code", "")
    found = zone_of(
        country,
        cells.get("region", ""),
        cells.get("cloud_provider", ""),
        cells.get("cloud_region", ""),
    )
    return {
        "zone": found or country or "unknown",
        "source": f"CodeCarbon {_cut(cells.get('codecarbon_version', ''))}".strip(),
        "grams_per_kwh": round(grams / kwh, DIGITS) if kwh else 0.0,
        "pue": pue,
    }
