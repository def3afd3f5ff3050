"""The model card of a training: kept up to date, and through the Trainer writing it anew."""

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
"""Label of a run: the run of the same Trainer's training before it, for who resumes the later."""
Record: TypeAlias = Mapping[str, Any]


@runtime_checkable
class KeepsCard(Protocol):
    """A callback whose card is to be kept."""

    def keep_card(self, directory: str, control: Any) -> None:
        """Write the emissions of the Trainer with that control object into its card."""


class TrainerCard:
    """What all trainings of one Trainer emitted, in the README.md of its output directory."""

    def __init__(self, stated: StatedFacts) -> None:
        self.stated = stated
        self.records: dict[tuple[str, str, str], Record] = {}
        """Of the trainings of this process, the latest last."""
        self.unmeasured = 0
        """Trainings of this process that nobody measured: their emissions are unknown."""

    def add(self, record: Record) -> None:
        """Take the record of a training; it replaces an earlier one of the same run."""
        self.records.pop(_key(record), None)
        self.records[_key(record)] = record

    def link(self, resumed: Record) -> Mapping[str, str]:
        """Labels of the next run that name the run before it; those of a run that is resumed."""
        if resumed:
            before = (resumed.get("labels") or {}).get(PREVIOUS_RUN)
        else:
            before = next((run_id for run_id, _, _ in reversed(self.records)), None)
        return {PREVIOUS_RUN: str(before)} if before else {}

    def write(self, directory: str) -> None:
        """Merge the sum of all trainings into the card; there is at least one record.

        Raises ConfigError: the card is malformed or of another source, nodes are missing, or a
        training was not measured.
        """
        if self.unmeasured:
            raise ConfigError(
                f"trainings of this Trainer that were not measured: {self.unmeasured}"
            )
        whole = self._whole(receipts_directory(directory))
        update_card_file(os.path.join(directory, CARD), whole, self.stated, may_overwrite=False)

    def _whole(self, directory: str) -> Record:
        """One record of all: of other nodes and of earlier jobs by the receipts that they left."""
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
    """Where the receipts of an output directory are."""
    return os.path.join(directory, "emissions")


def write_checkpoint_receipt(directory: str, record: Record) -> None:
    """Write one beside a checkpoint: who goes on from there finds the run by it. Raises OSError."""
    receipts.write_receipt(receipts_directory(directory), record)


def last_receipt(directory: str) -> Record:
    """The newest receipt of an output directory; empty where there is none."""
    found = list(_receipts(receipts_directory(directory)))
    return found[-1] if found else {}


def patch_create_model_card(trainer: type) -> None:
    """Have the card written again after a Trainer, or a subclass of it, has made it anew."""
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
    """Raise ConfigError where a node of a training left no record."""
    seen: dict[tuple[str, str], set[str]] = {}
    for record in records:
        seen.setdefault((record["run_id"], record["job_id"]), set()).add(record["node"])
    for record in records:
        nodes = record.get("nodes") or 1
        known = len(seen[record["run_id"], record["job_id"]])
        if known < nodes:
            raise ConfigError(
                f"{known} of {nodes} nodes are known here; from Prometheus: emissions-exporter "
                f"report {record['run_id']} --prometheus URL --format json | emissions-exporter "
                "card write README.md --record /dev/stdin"
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
