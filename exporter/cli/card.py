"""`card`: emissions in the model cards of the Hugging Face Hub.

`write` merges those of a run into a card and leaves all else as it is, `check` finds mistakes such
as kilograms where grams are expected, `models` lists models of the Hub by what they say.
"""

import argparse
import sys
from typing import Any

from exporter.cli import history
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
        "card", help="Write and check emissions in model cards.", description=__doc__
    )
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    _add_write(commands)
    check = commands.add_parser("check", help="Find mistakes; 1 if there is an error.")
    check.add_argument("files", metavar="FILE", nargs="+", help="Cards: README.md of models.")
    check.add_argument("--record", metavar="FILE", help="The record that the cards should show.")
    check.set_defaults(main=_check)
    models = commands.add_parser("models", help="Models of the Hub by their emissions.")
    models.add_argument(
        "--min-grams", type=parse_grams, metavar="G", help="Models with at least that much."
    )
    models.add_argument(
        "--max-grams", type=parse_grams, metavar="G", help="Models with at most that much."
    )
    models.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="TAG",
        help="Models with this tag; repeatable.",
    )
    models.add_argument("--search", metavar="TEXT", help="Models with this text in their names.")
    models.add_argument(
        "--limit", type=int, default=MAX_MODELS, metavar="N", help="How many models are read."
    )
    models.set_defaults(main=_models)


def _add_write(commands: Any) -> None:
    write = commands.add_parser("write", help="Merge a run into a card, or begin one.")
    write.add_argument("file", metavar="FILE", help="The card: README.md of the model.")
    write.add_argument(
        "run_id", metavar="RUN", nargs="?", help="Its id, or its name if only one run has it."
    )
    write.add_argument("--job-id", metavar="ID", help="Which RUN is meant.")
    write.add_argument(
        "--record",
        metavar="FILE",
        help="A record, JSON, in place of RUN: a receipt, or /dev/stdin for what `report "
        "--format json` gives of a job, a group or many nodes.",
    )
    write.add_argument(
        "--training-type", choices=TRAINING_TYPES, default="", help="Kind of training."
    )
    write.add_argument(
        "--location",
        default="",
        metavar="TEXT",
        help="Place of the hardware, as exactly as possible: Quebec, Canada.",
    )
    write.add_argument(
        "--hardware", default="", metavar="TEXT", help="Hardware that was used: 8 V100 GPUs."
    )
    write.add_argument("--provider", default="", metavar="TEXT", help="Cloud provider, if any.")
    history.add_flags(write)
    write.set_defaults(main=_write)


def _write(options: argparse.Namespace) -> int:
    if (options.record is None) == (options.run_id is None):
        raise ConfigError("card write: give either a RUN or --record")
    record = _known(options) if options.record is None else _read_single_record(options.record)
    told = StatedFacts(options.training_type, options.location, options.hardware, options.provider)
    before = merge.update_card_file(options.file, record, told).before
    was = f"; it was {before}" if before else ""
    print(f"{options.file}: emissions of {record['run_id']}{was}", file=sys.stderr)
    for finding in check_card(merge.read_card(options.file), record):
        print(_line(options.file, finding), file=sys.stderr)
    return 0


def _known(options: argparse.Namespace) -> dict[str, Any]:
    with history.opened(options) as known:
        return history.find(known, options.run_id, options.job_id)


def _read_single_record(path: str) -> dict[str, Any]:
    found = records.read_records(path)
    if len(found) != 1:
        raise ConfigError(f"{path}: holds {len(found)} records; a card shows one")
    return found[0]


def _check(options: argparse.Namespace) -> int:
    record = None if options.record is None else _read_single_record(options.record)
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
        raise ConfigError(f"card models: --limit {options.limit}: expected 1 or more")
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
