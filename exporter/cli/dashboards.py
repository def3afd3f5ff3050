"""`dashboards`: write the dashboards, recording rules and alerts that come with this version.

DIRECTORY receives `dashboards` (JSON for Grafana), `grafana/provisioning`, and `prometheus` with
the recording rules, the alerts and a whole configuration, `prometheus.yml`. A configuration there
that was changed, of Prometheus or of Grafana, is never replaced: that of this version is written
beside it as FILE.new.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from exporter.cli.arguments import add_runbook_flag
from exporter.cli.shipped import current, shipped, write

FOLDERS = {
    "dashboards": "dashboards/generated",
    "grafana": "deploy/grafana",
    "prometheus": "deploy/prometheus",
}
"""Folders that are written, and where the repository keeps each; pyproject.toml lists them too."""
CONFIGURATION = ("grafana/", "prometheus/prometheus.yml", "prometheus/budgets.example.yaml")
"""Beginnings of the paths of files that are edited where they are: targets, addresses, secrets."""
NEW = ".new"
JOB = "emissions-exporter"
"""Value of the label `job`, in what the package has."""
JOB_LINES = ('job="{}"', 'job=\\"{}\\"', "job_name: {}\n")
"""Where it is in rules, in JSON and in the configuration."""
JOB_NAME = re.compile(r"[A-Za-z0-9_./-]+")
ALERTS_WITH_JOB = "prometheus/alerts/health.yaml"
JOB_OF_ALERT = re.compile(r'\bup\{job="([^"]+)"\}')
RUNBOOK = "runbook_url: docs/runbook.md"
NOTE = "# `runbook_url` is a path in this repository"
"""Of alerts in the repository; a line that is not true of what is written."""
LINK = re.compile(r"^\s*runbook_url: (https?://[^\s#]+)#", re.MULTILINE)


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "dashboards", help="Write dashboards, rules and alerts as files.", description=__doc__
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="Created where it is missing.")
    parser.add_argument(
        "--force",
        action="store_true",
        help="Replace dashboards, rules and alerts that differ, as after an upgrade.",
    )
    parser.add_argument(
        "--job",
        type=_job_name,
        metavar="NAME",
        help="Name of the scrape job in your Prometheus (default: that of the alerts in "
        f"DIRECTORY, else {JOB}).",
    )
    add_runbook_flag(
        parser,
        default=None,
        without="Without it, alerts keep the address that those in DIRECTORY have, if any.",
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises ConfigError where one would be replaced."""
    files = {
        os.path.join(name, path): text
        for name, source in FOLDERS.items()
        for path, text in shipped(f"monitoring/{name}", source)
    }
    runbook_url = options.runbook_url
    if runbook_url is None:
        runbook_url = _linked(options.directory, files)
    job = options.job or _job(options.directory)
    made, kept = {}, []
    for name, source in files.items():
        path = os.path.join(options.directory, name)
        text = with_job(set_runbook_url(source, runbook_url), job)
        if name.startswith(CONFIGURATION) and current(path) not in (None, text):
            kept.append(path)
            path = f"{path}{NEW}"
        made[path] = text
    new = {f"{path}{NEW}" for path in kept}
    write(options.directory, made, force=options.force, replaceable=new)
    for path in kept:
        print(
            f"emissions-exporter: {path} was changed and is kept; "
            f"{path}{NEW} is that of this version",
            file=sys.stderr,
        )
    return 0


def _linked(directory: str, files: Mapping[str, str]) -> str:
    """The runbook to which the alerts in the directory link; "" for none."""
    for name in (name for name, text in files.items() if RUNBOOK in text):
        if found := LINK.search(current(os.path.join(directory, name)) or ""):
            return found[1]
    return ""


def _job(directory: str) -> str:
    """The scrape job that the alerts in the directory name; ours where there are none."""
    found = JOB_OF_ALERT.search(current(os.path.join(directory, ALERTS_WITH_JOB)) or "")
    return found[1] if found else JOB


def _job_name(text: str) -> str:
    if not JOB_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, _ . / and -, found {text!r}")
    return text


def with_job(text: str, job: str) -> str:
    """The text for a scrape job of that name."""
    for line in JOB_LINES:
        text = text.replace(line.format(JOB), line.format(job))
    return text


def set_runbook_url(text: str, runbook_url: str) -> str:
    """The rules `text` with links to the runbook at that address; without one, with none."""
    excluded = (NOTE,) if runbook_url else (NOTE, RUNBOOK)
    kept = (
        line for line in text.splitlines(keepends=True) if not line.strip().startswith(excluded)
    )
    return "".join(kept).replace(RUNBOOK, f"runbook_url: {runbook_url}")
