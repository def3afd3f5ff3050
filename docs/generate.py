"""Generates the references in docs/ and the manual page from the code.

`--check` writes nothing and fails if a file is not current.
"""

import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
# The code of this clone, not that of another one which is installed in the environment.
sys.path.insert(0, str(HERE.parent))

from docs.manual import manual  # noqa: E402
from exporter import config  # noqa: E402
from exporter.convert import registry  # noqa: E402
from exporter.expose import metrics  # noqa: E402
from exporter.model.record_document import FIELDS, RECORD_SCHEMA  # noqa: E402
from exporter.setting import variable  # noqa: E402

CONFIGURATION = """\
# Configuration

All settings are optional. They are read from a YAML file, set by `--config.file`, whose top-level
keys are the five stages of the pipeline. Flags take precedence over environment variables, these
over the file, and the file over the defaults. Unknown and duplicate keys are errors, and so are
numbers with a unit: units are part of the names.

    convert:
      zone: DE
      pue: 1.3

Relative paths in the file are relative to the file; those in flags and environment variables, to
the current directory. The daemon logs a warning for each setting in the file that a flag or an
environment variable overrides with another value.

`emissions-exporter check-config FILE` validates a file and prints the resulting carbon intensity.
An error begins with the flag, the environment variable, or the file and key of the setting. Run it
as the daemon's user, since it also reads keys and tokens:
`runuser -u emissions -- emissions-exporter check-config FILE`.
"""

SOURCES = """\
### Sources of intensity

Entries of `convert.sources` and `convert.second`: a name, or a name with options. Empty options
default to the keys above. [intensity.md](intensity.md) explains how sources are combined.

    convert:
      zone: DE
      sources:
        - electricity_maps: {token_file: /etc/emissions-exporter/electricity-maps.token}
        - table
"""

METRICS = """\
# Metrics

All metric families on `/metrics`. In every scrape, for each device:

    emissions_device_energy_joules_total
      = emissions_attributed_energy_joules_total + emissions_unattributed_energy_joules_total

summed over their other labels. A *durable* counter continues across restarts of the daemon: after a
restart it is at or above its last exported value, or it restarts at zero. Other counters restart at
zero with the daemon. Unknown values are absent, never zero.
"""


def configuration() -> str:
    """Return docs/configuration.md."""
    parts = [CONFIGURATION]
    for name, section in typing.get_type_hints(config.Config).items():
        hints = typing.get_type_hints(section)
        rows = [
            (
                f"`{item.name}`",
                _type(hints[item.name]),
                item.metadata["unit"],
                _default(item),
                _flag(item.metadata["flag"]),
                f"`{variable(f'{name}.{item.name}')}`",
                item.metadata["text"],
            )
            for item in dataclasses.fields(section)
        ]
        head = ("key", "type", "unit", "default", "flag", "environment variable", "description")
        parts += [f"## {name}\n\n{section.__doc__}\n", _table(head, rows)]
        if section is config.ConvertConfig:
            parts += _sources()
    return "\n".join(parts)


def _sources() -> Iterator[str]:
    """Yield the reference of each source in `convert.sources`."""
    yield SOURCES
    for name in registry.SOURCE_CLASSES:
        kind = registry.source_class(name)
        hints = typing.get_type_hints(kind)
        rows = [
            (
                f"`{item.name}`",
                _type(hints[item.name]),
                item.metadata["unit"],
                _default(item),
                item.metadata["text"],
            )
            for item in dataclasses.fields(kind)
        ]
        about = "\n\n".join(
            " ".join(paragraph.split()) for paragraph in str(kind.__doc__).split("\n\n")
        )
        yield f"#### {name}\n\n{about}\n"
        yield _table(("option", "type", "unit", "default", "description"), rows)


def metrics_reference() -> str:
    """Return docs/metrics.md."""
    apart = (
        *metrics.DEVICE_FAMILIES,
        *metrics.NODE_FAMILIES,
        *metrics.GRID_FAMILIES,
        *metrics.DAEMON_FAMILIES,
    )
    sections = {
        "Devices": metrics.DEVICE_FAMILIES,
        "Node": metrics.NODE_FAMILIES,
        "Runs": tuple(family for family in metrics.metric_families() if family not in apart),
        "Grid": metrics.GRID_FAMILIES,
        "The daemon itself": metrics.DAEMON_FAMILIES,
    }
    parts = [METRICS]
    for title, families in sections.items():
        rows = [
            (
                f"`{family.name}`",
                f"{family.type}, durable" if family.durable else family.type,
                ", ".join(f"`{label}`" for label in family.labels),
                family.help,
            )
            for family in families
        ]
        parts += [f"## {title}\n", _table(("metric", "type", "labels", "description"), rows)]
        if families is metrics.DEVICE_FAMILIES:
            reasons = [(f"`{reason}`", text) for reason, text in metrics.REASONS.items()]
            parts += ["### Values of `reason`\n", _table(("reason", "description"), reasons)]
    parts.append(
        "`emissions_run_info` and the `emissions_owner_*` counters also have a label `label_*`\n"
        "for each run label in `attribute.exported_labels`. No counter has the label `account`;\n"
        "the recording rules provide energy and emissions by account ([rules](rules.md#levels)).\n"
    )
    return "\n".join(parts)


def record_schema() -> str:
    """Return docs/record.schema.json."""
    return json.dumps(RECORD_SCHEMA, indent=2) + "\n"


def record_page() -> str:
    """Return docs/record.md with the table of the fields between its two comments."""
    rows = [(f"`{field.name}`", field.description) for field in FIELDS]
    begin, end = "<!-- fields: begin -->\n", "<!-- fields: end -->\n"
    text = (HERE / "record.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{_table(('field', 'description'), rows)}{end}{after}"


def pages() -> dict[Path, str]:
    """Return the generated files and their texts."""
    return {
        HERE / "configuration.md": configuration(),
        HERE / "metrics.md": metrics_reference(),
        HERE / "record.md": record_page(),
        HERE / "record.schema.json": record_schema(),
        HERE / "emissions-exporter.1": manual(),
    }


def stale(made: Mapping[Path, str]) -> list[Path]:
    """Return the files that are not current."""
    return [
        path
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args(arguments)
    made = pages()
    old = stale(made)
    if options.check and old:
        names = ", ".join(f"docs/{path.name}" for path in old)
        print(f"{names}: not generated from this code, run `make docs`", file=sys.stderr)
        return 1
    for path in old:
        path.write_text(made[path], encoding="utf-8")
    return 0


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is types.UnionType:
        kinds = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return f"{_type(kinds[0])} or empty"
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "list"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return names.get(hint, "names with `true` or `false`")


def _default(item: "dataclasses.Field[Any]") -> str:
    if isinstance(item.default, bool):
        return f"`{str(item.default).lower()}`"
    if isinstance(item.default, int | float):
        return f"`{item.default:g}`"
    if isinstance(item.default, str) and item.default:
        return f"`{item.default}`"
    return ""


def _flag(flag: str) -> str:
    if flag == "collector":
        return "`--[no-]collector.NAME`"
    return f"`--{flag}`" if flag else ""


if __name__ == "__main__":
    raise SystemExit(main())
