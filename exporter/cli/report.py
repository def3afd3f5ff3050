"""`report RUN`: one run's record, as a receipt or as JSON."""

import argparse
import json
from typing import Any

from exporter.client.agent import Agent
from exporter.report.forms.text import receipt


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("report", help="Say what one run used.", description=__doc__)
    parser.add_argument("run_id", metavar="RUN", help="Its id.")
    parser.add_argument("--job-id", metavar="ID", help="Which one, if several jobs have it.")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--socket.path", dest="socket", default="", metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the record."""
    record = Agent(options.socket).run(options.run_id, options.job_id)
    print(json.dumps(record, indent=2) if options.format == "json" else receipt(record))
    return 0
