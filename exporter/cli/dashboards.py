"""`dashboards`: write the bundled Grafana dashboards, recording rules and alerts.

The files are written to subdirectories of DIRECTORY: `dashboards` (JSON for Grafana),
`grafana/provisioning`, and `prometheus` with the recording rules, the alerts and a complete
configuration, `prometheus.yml`. An existing configuration file of Prometheus or Grafana that was
edited is never replaced: the file of this version is written next to it as FILE.new.
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
"""Folders to write, and their paths in the repository. Keep in step with pyproject.toml."""
CONFIGURATION = ("grafana/", "prometheus/prometheus.yml", "prometheus/budgets.example.yaml")
"""Path prefixes of files that users edit in place: targets, addresses, secrets."""
NEW = ".new"
JOB = "emissions-exporter"
"""Value of the label `job` in the bundled files."""
JOB_LINES = ('job="{}"', 'job=\\"{}\\"', "job_name: {}\n")
"""Forms of the job's name in rules, in JSON and in the Prometheus configuration."""
JOB_NAME = re.compile(r"[A-Za-z0-9_./-]+")
ALERTS_WITH_JOB = "prometheus/alerts/health.yaml"
JOB_OF_ALERT = re.compile(r'\bup\{job="([^"]+)"\}')
RUNBOOK = "runbook_url: docs/runbook.md"
NOTE = "# `runbook_url` is a path in this repository"
"""Comment in the alerts of the repository; it does not apply to the files that are written."""
LINK = re.compile(r"^\s*runbook_url: (https?://[^\s#]+)#", re.MULTILINE)


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "dashboards", help="Write Grafana dashboards, rules and alerts.", description=__doc__
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="Output directory; created if it does not exist."
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="Replace dashboards, rules and alerts that differ, for example after an upgrade.",
    )
    parser.add_argument(
        "--job",
        type=_job_name,
        metavar="NAME",
        help="Name of the scrape job in Prometheus (default: the job in the alerts of DIRECTORY, "
        f"else {JOB}).",
    )
    add_runbook_flag(
        parser,
        default=None,
        without="Without it, alerts keep the address in the alerts of DIRECTORY, if any.",
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises ConfigError if one would be replaced."""
    files = {
        os.path.join(name, path): text
        for name, source in FOLDERS.items()
        for path, text in shipped(f"monitoring/{name}", source)
    }
    runbook_url = options.runbook_url
    if runbook_url is None:
        runbook_url = _existing_runbook_url(options.directory, files)
    job = options.job or _job(options.directory)
    outputs, kept = {}, []
    for name, source in files.items():
        path = os.path.join(options.directory, name)
        text = with_job(set_runbook_url(source, runbook_url), job)
        if name.startswith(CONFIGURATION) and current(path) not in (None, text):
            kept.append(path)
            path = f"{path}{NEW}"
        outputs[path] = text
    new = {f"{path}{NEW}" for path in kept}
    write(options.directory, outputs, force=options.force, replaceable=new)
    for path in kept:
        print(
            f"emissions-exporter: {path} was edited and is kept; "
            f"the file of this version is {path}{NEW}",
            file=sys.stderr,
        )
    return 0


def _existing_runbook_url(directory: str, files: Mapping[str, str]) -> str:
    """Return the runbook URL in the alerts of the directory; "" for none."""
    for name in (name for name, text in files.items() if RUNBOOK in text):
        if match := LINK.search(current(os.path.join(directory, name)) or ""):
            return match[1]
    return ""


def _job(directory: str) -> str:
    """Return the scrape job in the alerts of the directory; defaults to `JOB`."""
    match = JOB_OF_ALERT.search(current(os.path.join(directory, ALERTS_WITH_JOB)) or "")
    return match[1] if match else JOB


def _job_name(text: str) -> str:
    if not JOB_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, _ . / or -, found {text!r}")
    return text


def with_job(text: str, job: str) -> str:
    """Replace the default scrape job by `job`."""
    for line in JOB_LINES:
        text = text.replace(line.format(JOB), line.format(job))
    return text


def set_runbook_url(text: str, runbook_url: str) -> str:
    """Set the runbook URL in the rules `text`; an empty URL removes the annotation."""
    excluded = (NOTE,) if runbook_url else (NOTE, RUNBOOK)
    kept = (
        line for line in text.splitlines(keepends=True) if not line.strip().startswith(excluded)
    )
    return "".join(kept).replace(RUNBOOK, f"runbook_url: {runbook_url}")
