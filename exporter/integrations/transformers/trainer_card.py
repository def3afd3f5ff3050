"""Emissions in the Trainer's model card, kept up to date when the Trainer writes it again."""

import functools
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from exporter.client import receipts
from exporter.client.log import warn
from exporter.errors import ConfigError
from exporter.report import records
from exporter.report.card.facts import StatedFacts
from exporter.report.card.merge import update_card_file
from exporter.report.records import combine_records

CARD = "README.md"
PREVIOUS_RUN = "previous_run_id"
"""Label with the id of the same Trainer's previous run, used when the later run is resumed."""
Record: TypeAlias = Mapping[str, Any]


@runtime_checkable
class KeepsCard(Protocol):
    """Callback that updates the model card."""

    def keep_card(self, directory: str, control: Any) -> None:
        """Write the emissions of the Trainer with this control object to its card."""


class TrainerCard:
    """Emissions of all trainings of one Trainer, in README.md of its output directory."""

    def __init__(self, stated: StatedFacts) -> None:
        self.stated = stated
        self.records: dict[tuple[str, str, str], Record] = {}
        """Records of the trainings of this process, latest last."""
        self.unmeasured = 0
        """Number of trainings of this process that were not measured."""

    def add(self, record: Record) -> None:
        """Add the record of a training; it replaces an earlier record of the same run."""
        self.records.pop(_key(record), None)
        self.records[_key(record)] = record

    def link(self, resumed: Record) -> Mapping[str, str]:
        """Return the label of the next run with the id of its previous run, if any."""
        if resumed:
            before = (resumed.get("labels") or {}).get(PREVIOUS_RUN)
        else:
            before = next((run_id for run_id, _, _ in reversed(self.records)), None)
        return {PREVIOUS_RUN: str(before)} if before else {}

    def write(self, directory: str) -> None:
        """Merge the sum of all trainings into the card; requires at least one record.

        Raises ConfigError if the card is malformed or has emissions of another source, if nodes are
        missing, or if a training was not measured.
        """
        if self.unmeasured:
            raise ConfigError(f"{self.unmeasured} trainings of this Trainer were not measured")
        whole = self._whole(receipts_directory(directory))
        update_card_file(os.path.join(directory, CARD), whole, self.stated, may_overwrite=False)

    def _whole(self, directory: str) -> Record:
        """Return the sum of all records, with receipts of other nodes and of earlier jobs."""
        record = next(reversed(self.records.values()))
        receipts = list(_receipts(directory))
        ids = _with_previous_runs({run_id for run_id, _, _ in self.records}, receipts)
        found = {_key(each): each for each in receipts if each["run_id"] in ids}
        every = list({**found, **self.records}.values())
        _check_nodes(every)
        if len(every) == 1:
            return every[0]
        whole = combine_records(every, record["run_id"])
        return {**whole, "nodes": record.get("nodes") or 1, "labels": record.get("labels")}


def receipts_directory(directory: str) -> str:
    """Return the receipts directory of an output directory."""
    return os.path.join(directory, "emissions")


def write_checkpoint_receipt(directory: str, record: Record) -> None:
    """Write a receipt for a checkpoint, from which a resumed training finds the run's id.

    Raises OSError.
    """
    receipts.write_receipt(receipts_directory(directory), record)


def last_receipt(directory: str) -> Record:
    """Return the newest receipt of an output directory; empty if there is none."""
    found = list(_receipts(receipts_directory(directory)))
    return found[-1] if found else {}


def patch_create_model_card(trainer: type) -> None:
    """Patch a Trainer class and its subclasses to add emissions to the cards that they write."""
    for each in (trainer, *_subclasses(trainer)):
        written = vars(each).get("create_model_card")
        if written is not None and not hasattr(written, "keeps_emissions"):
            setattr(each, "create_model_card", _wrap_create_model_card(written))  # noqa: B010  a type has no such


def _wrap_create_model_card(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = write(self, *args, **kwargs)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, KeepsCard):
                callback.keep_card(self.args.output_dir, self.control)
        return answer

    create_model_card.keeps_emissions = True  # type: ignore[attr-defined]
    return create_model_card


def _subclasses(base: type) -> Iterator[type]:
    each: type
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)


def _key(record: Record) -> tuple[str, str, str]:
    return record["run_id"], record["job_id"], record["node"]


def _check_nodes(records: Sequence[Record]) -> None:
    """Raise ConfigError if a node of a training has no record."""
    seen: dict[tuple[str, str], set[str]] = {}
    for record in records:
        seen.setdefault((record["run_id"], record["job_id"]), set()).add(record["node"])
    for record in records:
        nodes = record.get("nodes") or 1
        count = len(seen[record["run_id"], record["job_id"]])
        if count < nodes:
            raise ConfigError(
                f"records of {count} of {nodes} nodes found; to use Prometheus instead: "
                f"emissions-exporter report {record['run_id']} --prometheus URL --format json | "
                "emissions-exporter card write README.md --record /dev/stdin"
            )


def _with_previous_runs(ids: set[str], receipts: Sequence[Record]) -> set[str]:
    """Ids of runs, and of all that came before them in the same Trainer."""
    previous = {each["run_id"]: (each.get("labels") or {}).get(PREVIOUS_RUN) for each in receipts}
    found, new = set(ids), set(ids)
    while new:
        new = {str(before) for run_id in new if (before := previous.get(run_id))} - found
        found |= new
    return found


def _receipts(directory: str) -> Iterator[dict[str, Any]]:
    """Those that can be read, the newest last."""
    paths = glob.glob(os.path.join(glob.escape(directory), "*.json"))
    for path in sorted(paths, key=os.path.getmtime):
        try:
            yield from records.read_records(path)
        except ConfigError as error:
            warn("not taken into account: %s", error)
