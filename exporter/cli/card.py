"""`card`: write and check emissions in Hugging Face model cards.

`write` merges the emissions of a run into a card and leaves everything else unchanged. `check`
finds mistakes, such as kilograms where grams are expected. `models` lists models of the Hub by the
emissions in their cards.
"""

import argparse
import sys
from typing import Any

from exporter.cli import run_sources
from exporter.cli.arguments import parse_grams
from exporter.errors import ConfigError
from exporter.report import records
from exporter.report.card import merge
from exporter.report.card.check import Finding, check_card
from exporter.report.card.facts import TRAINING_TYPES, StatedFacts

MAX_MODELS = 1_000


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "card", help="Write and check emissions in Hugging Face model cards.", description=__doc__
    )
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    _add_write(commands)
    check = commands.add_parser("check", help="Find mistakes; exits with 1 if there is an error.")
    check.add_argument("files", metavar="FILE", nargs="+", help="Model cards (README.md).")
    check.add_argument("--record", metavar="FILE", help="The record that the cards must match.")
    check.set_defaults(main=_check)
    models = commands.add_parser("models", help="List models of the Hub by their emissions.")
    models.add_argument(
        "--min-grams", type=parse_grams, metavar="G", help="Only models with at least this many."
    )
    models.add_argument(
        "--max-grams", type=parse_grams, metavar="G", help="Only models with at most this many."
    )
    models.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="TAG",
        help="Only models with this tag; repeatable.",
    )
    models.add_argument(
        "--search", metavar="TEXT", help="Only models with this text in their names."
    )
    models.add_argument(
        "--limit", type=int, default=MAX_MODELS, metavar="N", help="Maximum number of models read."
    )
    models.set_defaults(main=_models)


def _add_write(commands: Any) -> None:
    write = commands.add_parser("write", help="Merge a run into a card, or create the card.")
    write.add_argument("file", metavar="FILE", help="The model card (README.md).")
    write.add_argument(
        "run_id", metavar="RUN", nargs="?", help="Id of the run, or its name if it is unique."
    )
    write.add_argument(
        "--job-id", metavar="ID", help="Job of RUN, if several jobs have a run with this id."
    )
    write.add_argument(
        "--record",
        metavar="FILE",
        help="A JSON record instead of RUN: a receipt, or /dev/stdin for the output of `report "
        "--format json` for a job, a group or many nodes.",
    )
    write.add_argument(
        "--training-type", choices=TRAINING_TYPES, default="", help="Kind of training."
    )
    write.add_argument(
        "--location",
        default="",
        metavar="TEXT",
        help="Location of the hardware, as exact as possible: Quebec, Canada.",
    )
    write.add_argument("--hardware", default="", metavar="TEXT", help="Hardware used: 8 V100 GPUs.")
    write.add_argument("--provider", default="", metavar="TEXT", help="Cloud provider, if any.")
    run_sources.add_flags(write)
    write.set_defaults(main=_write)


def _write(options: argparse.Namespace) -> int:
    if (options.record is None) == (options.run_id is None):
        raise ConfigError("card write: give either RUN or --record")
    record = _load_record(options) if options.record is None else _read_record(options.record)
    stated = StatedFacts(
        options.training_type, options.location, options.hardware, options.provider
    )
    previous = merge.update_card_file(options.file, record, stated).before
    replaced = f" (previously {previous})" if previous else ""
    print(f"{options.file}: wrote emissions of {record['run_id']}{replaced}", file=sys.stderr)
    for finding in check_card(merge.read_card(options.file), record):
        print(_line(options.file, finding), file=sys.stderr)
    return 0


def _load_record(options: argparse.Namespace) -> dict[str, Any]:
    with run_sources.opened(options) as runs:
        return run_sources.complete(runs, run_sources.find(runs, options.run_id, options.job_id))


def _read_record(path: str) -> dict[str, Any]:
    found = records.read_records(path)
    if len(found) != 1:
        raise ConfigError(
            f"{path}: contains {len(found)} records, but a card shows one; give a file with one"
        )
    return found[0]


def _check(options: argparse.Namespace) -> int:
    record = None if options.record is None else _read_record(options.record)
    worst = 0
    for path in options.files:
        for finding in check_card(merge.read_card(path), record):
            print(_line(path, finding))
            worst |= finding.severity == "error"
    return worst


def _line(path: str, finding: Finding) -> str:
    return f"{path}:{finding.line}: {finding.severity}: {finding.text}"


def _models(options: argparse.Namespace) -> int:
    from exporter.integrations.huggingface import HubModel, models_within

    if options.limit < 1:
        raise ConfigError(f"card models: --limit {options.limit}: expected at least 1")
    found = models_within(
        options.min_grams,
        options.max_grams,
        filter=options.filter or None,
        search=options.search,
        limit=options.limit,
    )
    for model in sorted(found, key=HubModel.order):
        print(f"{model.emissions_grams:14.6g} g  {model.id}")
    return 0
