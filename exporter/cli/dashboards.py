"""`dashboards`: write the dashboards, recording rules and alerts that come with this version.

DIRECTORY receives `dashboards` (JSON for Grafana), `grafana/provisioning`, and `prometheus` with
the recording rules, the alerts and a whole configuration, `prometheus.yml`.
"""

import argparse
import os
from collections.abc import Iterator
from typing import Any

import exporter.data
from exporter.cli.parser import add_runbook_flag
from exporter.errors import ConfigError

FOLDERS = {
    "dashboards": "dashboards/generated",
    "grafana": "deploy/grafana",
    "prometheus": "deploy/prometheus",
}
"""Folders that are written, and where the repository keeps each; pyproject.toml lists them too."""
RUNBOOK = "runbook_url: docs/runbook.md"
NOTE = "# `runbook_url` is a path in this repository"
"""Of alerts in the repository; a line that is not true of what is written."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "dashboards", help="Write dashboards, rules and alerts as files.", description=__doc__
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="Created where it is missing.")
    parser.add_argument(
        "--force",
        action="store_true",
        help="Replace files that differ, as after an upgrade.",
    )
    add_runbook_flag(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises ConfigError where one would be replaced."""
    made = {
        os.path.join(options.directory, name): with_runbook(text, options.runbook_url)
        for name, text in shipped()
    }
    differing = [path for path, text in made.items() if _current(path) not in (None, text)]
    if differing and not options.force:
        raise ConfigError(
            f"{options.directory}: nothing was written; {len(differing)} of the files there would "
            f"be replaced, first {differing[0]}; name another directory, or replace them with "
            "--force"
        )
    for path, text in made.items():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        print(path)
    return 0


def with_runbook(text: str, runbook_url: str) -> str:
    """The rules `text` with links to the runbook at that address; without one, with none."""
    left_out = (NOTE,) if runbook_url else (NOTE, RUNBOOK)
    kept = (
        line for line in text.splitlines(keepends=True) if not line.strip().startswith(left_out)
    )
    return "".join(kept).replace(RUNBOOK, f"runbook_url: {runbook_url}")


def shipped() -> Iterator[tuple[str, str]]:
    """Path under DIRECTORY and text of each file of the package, or of its clone."""
    package = os.path.dirname(exporter.data.__file__)
    clone = os.path.dirname(os.path.dirname(package))
    for name, source in FOLDERS.items():
        installed = os.path.join(package, "monitoring", name)
        top = installed if os.path.isdir(installed) else os.path.join(clone, source)
        for folder, folders, files in os.walk(top):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(folder, file)
                with open(path, encoding="utf-8") as opened:
                    yield os.path.join(name, os.path.relpath(path, top)), opened.read()


def _current(path: str) -> str | None:
    """The text of the file that is there; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
