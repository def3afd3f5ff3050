"""Writes what is made of the code, beside this file: two references and the manual page.

`--check` writes nothing and fails if one of them is not what would be written.
"""

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from docs.manual import manual
from exporter import config
from exporter.convert import registry
from exporter.expose import metrics
from exporter.setting import variable

HERE = Path(__file__).resolve().parent

CONFIGURATION = """\
# Configuration

Everything works without a file and without a flag. Settings live in a YAML file, named with
`--config.file`, whose top-level keys are the five stages of the pipeline. A flag goes before an
environment variable, that before the file, and the file before the default. A key that is not
known, or that is there twice, is an error, and so is a number with a unit: units are in the names.

    convert:
      zone: DE
      pue: 1.3

Relative paths in the file are relative to the file; those of flags and variables, to the current
directory. The daemon logs a warning for each setting of the file that a flag or variable with
another value overrides.

`emissions-exporter check-config FILE` says whether a file is good, and which carbon intensity
follows from it. An error begins with the flag, the variable, or the file and key by which the
setting was given. Run it as the daemon's user, who has to read keys and tokens too:
`runuser -u emissions -- emissions-exporter check-config FILE`.
"""

SOURCES = """\
### Sources of intensity

Entries of `convert.sources` and `convert.second`: a name, or a name with options. What an option
leaves empty is taken from the keys above. [intensity.md](intensity.md) says how they work together.

    convert:
      zone: DE
      sources:
        - electricity_maps: {token_file: /etc/emissions-exporter/electricity-maps.token}
        - table
"""

METRICS = """\
# Metrics

Every family on `/metrics`. For each device, on every page:

    emissions_device_energy_joules_total
      = emissions_attributed_energy_joules_total + emissions_unattributed_energy_joules_total

summed over their other labels. A *durable* counter goes on over a restart of the daemon, at or
above every value that it showed, or it begins again at zero. The other counters begin again with
the daemon. What is not known is absent, never zero.
"""


def configuration() -> str:
    """The reference of settings."""
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
        head = ("key", "type", "unit", "default", "flag", "environment variable", "what")
        parts += [f"## {name}\n\n{section.__doc__}\n", _table(head, rows)]
        if section is config.ConvertConfig:
            parts += _sources()
    return "\n".join(parts)


def _sources() -> Iterator[str]:
    """What each entry of `convert.sources` may say."""
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
        yield _table(("option", "type", "unit", "default", "what"), rows)


def metrics_reference() -> str:
    """The reference of metric families."""
    apart = (*metrics.DEVICE_FAMILIES, *metrics.GRID_FAMILIES, *metrics.DAEMON_FAMILIES)
    sections = {
        "Devices": metrics.DEVICE_FAMILIES,
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
        parts += [f"## {title}\n", _table(("metric", "type", "labels", "what"), rows)]
        if families is metrics.DEVICE_FAMILIES:
            reasons = [(f"`{reason}`", text) for reason, text in metrics.REASONS.items()]
            parts += ["### Values of `reason`\n", _table(("reason", "what it is"), reasons)]
    parts.append(
        "`emissions_run_info` and the `emissions_owner_*` counters also have a label `label_*`\n"
        "for each label of a run that `attribute.exported_labels` names. No counter has the label\n"
        "`account`; the rules record energy and emissions by account ([rules](rules.md#levels)).\n"
    )
    return "\n".join(parts)


def stale(pages: Mapping[Path, str]) -> list[Path]:
    """The files that are not what they should be."""
    return [
        path
        for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; the answer is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args(arguments)
    pages = {
        HERE / "configuration.md": configuration(),
        HERE / "metrics.md": metrics_reference(),
        HERE / "emissions-exporter.1": manual(),
    }
    old = stale(pages)
    if options.check and old:
        names = ", ".join(f"docs/{path.name}" for path in old)
        print(f"{names}: not made from this code, run `make docs`", file=sys.stderr)
        return 1
    for path in old:
        path.write_text(pages[path], encoding="utf-8")
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
