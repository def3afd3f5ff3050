"""What the chart's checks must know of the exporter: its zones, its sources and its flags."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from exporter.cli import main as cli
from exporter.cli.command_tree import describe_parser
from exporter.convert import registry, zones
from exporter.convert.zones import ZoneRow
from exporter.model.intensity import Accounting, Basis, Signal

SEARCH = (
    ("country_intensity.csv",),
    ("region_intensity.csv", "zones.csv"),
    ("cloud_regions.csv",),
)
"""The order in which `zones.find_row` searches the tables."""

TOKENS = {"electricity_maps": "TOKEN_VARIABLE", "watttime": "PASSWORD_VARIABLE"}
"""Of the sources that require a token: the constant of their module with its variable."""

TEMPLATE = """\
{{/* Made by `make chart` from the exporter: names of zones and their codes. */}}
{{- define "ee.zoneNames" -}}
%s
{{- end }}
{{/* Of each code of a zone: country, basis of its yearly value, bases that it has values of. */}}
{{- define "ee.zones" -}}
%s
{{- end }}
{{/* What a source counts by default, its only country, the variable of its token. */}}
{{- define "ee.sources" -}}
%s
{{- end }}
{{/* Flags of `serve`. */}}
{{- define "ee.flags" -}}
%s
{{- end }}
"""


def template() -> str:
    """The template that defines all of it."""
    return TEMPLATE % tuple(
        json.dumps(each, indent=2) for each in (zone_names(), zone_facts(), sources(), flags())
    )


def zone_names() -> dict[str, str]:
    """Names of countries and of zones, in lower case, and their codes."""
    current = [row for row in zones.all_rows() if zones.RETIRED_FLAG not in row.flags]
    named = [row for row in current if row.table in ("country_intensity.csv", "zones.csv")]
    codes = {row.name.lower(): row.zone for row in reversed(named)}
    return {name: code for name, code in sorted(codes.items()) if name != code.lower()}


def zone_facts() -> dict[str, str]:
    """Of each code, separated by a space: its country, the default basis, all bases it has.

    A basis that it has none of is "-".
    """
    found: dict[str, list[ZoneRow]] = {}
    for row in zones.all_rows():
        for code in row.codes:
            found.setdefault(code, []).append(row)
    return {code: _zone(rows) for code, rows in sorted(found.items())}


def _zone(rows: Sequence[ZoneRow]) -> str:
    valued = [row for row in rows if row.grams_per_kwh is not None]
    groups = [[row.basis for row in valued if row.table in group] for group in SEARCH]
    first = min(next(filter(None, groups), []), key=zones.BASIS_PREFERENCE.index, default="-")
    bases = sorted({row.basis.value for row in valued} - {Basis.UNSTATED.value}) or ["-"]
    return f"{rows[0].country or '-'} {first} {','.join(bases)}"


def sources() -> dict[str, dict[str, str]]:
    """By the name of each source, what it counts by default and where."""
    return {name: _source(name, registry.source_class(name)) for name in registry.SOURCE_CLASSES}


def _source(name: str, kind: Any) -> dict[str, str]:
    if not hasattr(kind, "kind"):  # the table counts what its row counts
        return {"signal": Signal.AVERAGE.value, "accounting": Accounting.LOCATION.value}
    made = kind()
    signal, basis, accounting = made.kind
    return {
        "signal": signal.value,
        "basis": basis.value,
        "accounting": accounting.value,
        "country": getattr(made, "country", ""),
        "token": getattr(sys.modules[kind.__module__], TOKENS.get(name, ""), ""),
    }


def flags() -> list[str]:
    """The flags of `serve`."""
    [serve] = describe_parser(cli.parser_for("serve")).commands
    return sorted(flag for option in serve.options for flag in option.flags)
