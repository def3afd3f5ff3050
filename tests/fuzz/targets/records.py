"""Files that people hand to commands: records, recorded hosts, model cards, CodeCarbon's CSV."""

import json
from contextlib import suppress

from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.replay import ReplayWorkloadCollector
from exporter.errors import ConfigError
from exporter.expose.api.request_bodies import parse_import
from exporter.integrations.codecarbon.csv_import import read_history
from exporter.integrations.codecarbon.csv_writer import COLUMNS, write_csv_row
from exporter.model.runs import ProgressMark
from exporter.report.card.check import check_card
from exporter.report.card.merge import merge_card, read_card
from exporter.report.leaderboard.board import make_leaderboard
from exporter.report.leaderboard.entry import attach_serving_runs, make_entries
from exporter.report.leaderboard.formats import markdown_table, text_table, to_csv, to_json
from exporter.report.leaderboard.ranking import SortKey, choose_criteria
from exporter.report.records import read_records
from exporter.sample.sources.replay import ReplayCollector
from tests.fuzz.attempt import CORPUS
from tests.fuzz.inputs import NOW, StillClock, directory, file_with

ROW = {**dict.fromkeys(COLUMNS, 0), "run_id": "1b2c", "project_name": "bert"}


def run_records(data: bytes) -> None:
    """Records of runs, for the leaderboard and for model cards."""
    with suppress(ConfigError):
        records = read_records(file_with(data))
        again = read_records(file_with(json.dumps(records).encode()))
        assert again == records
        if not records:
            return
        runs = attach_serving_runs(make_entries(records))
        criteria = choose_criteria(runs, SortKey.GRAMS, "", "", "", higher_is_better=None)
        board = make_leaderboard(runs, criteria, None, reverse=False)
        for render in (text_table, markdown_table, to_json, to_csv):
            render(board)
        for record in records:
            check_card(CARD, record)
            merge_card(CARD, record)


def recorded_host(data: bytes) -> None:
    """A recorded host: its devices, and its workload over time."""
    clock = StillClock()
    with suppress(ConfigError):
        collector = ReplayCollector(file_with(data), clock, "boot")
        collector.read()
        registry = RunRegistry((), 100)
        workload = ReplayWorkloadCollector(
            json.loads(data), registry, clock, lambda _, done: ProgressMark(NOW, done, 0, 0)
        )
        workload.collect()


def model_card(data: bytes) -> None:
    """A model card that is checked, and one that is given emissions."""
    with suppress(ConfigError):
        text = read_card(file_with(data))
        check_card(text)
        check_card(text, RECORD)
        merge_card(merge_card(text, RECORD).text, RECORD)


def codecarbon_csv(data: bytes) -> None:
    """The emissions.csv of CodeCarbon: each imported run is accepted by the daemon."""
    with suppress(ConfigError):
        for run in read_history(file_with(data)).runs:
            parse_import(json.dumps({"origin": "codecarbon", "runs": [run]}).encode(), "ada")


def codecarbon_csv_update(data: bytes) -> None:
    """An emissions.csv of anybody, to which a row is added or in which one is replaced."""
    for file in directory().glob("written*"):
        file.unlink()
    path = file_with(data, "written.csv")
    for replacing in (True, False):
        write_csv_row(path, ROW, replacing=replacing)


def _seed(target: str, name: str) -> str:
    return (CORPUS / target / name).read_text(encoding="utf-8")


CARD = _seed("model_card", "emissions.md")
RECORD = json.loads(_seed("run_records", "record.json"))
TARGETS = (run_records, recorded_host, model_card, codecarbon_csv, codecarbon_csv_update)
