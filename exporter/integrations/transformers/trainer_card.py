"""The model card of a training: kept up to date, and through the Trainer writing it anew."""

import functools
import glob
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from exporter.client import receipts
from exporter.client.words import warn
from exporter.errors import ConfigError
from exporter.report import records
from exporter.report.card.facts import Told
from exporter.report.card.files import update
from exporter.report.combined import combined

CARD = "README.md"
Record: TypeAlias = Mapping[str, Any]


@runtime_checkable
class KeepsCard(Protocol):
    """A callback whose card is to be kept."""

    def keep_card(self, directory: str) -> None:
        """Write the emissions into the card of an output directory."""


class TrainerCard:
    """What all trainings of one Trainer emitted, in the README.md of its output directory."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self._records: dict[tuple[str, str, str], Record] = {}

    def write(self, directory: str, record: Record) -> None:
        """Merge a record, and those of the trainings before, into the card.

        Raises ConfigError: the card is malformed or of another source, or nodes are missing.
        """
        self._records[_key(record)] = record
        whole = self._whole(receipts_of(directory), record)
        update(os.path.join(directory, CARD), whole, self.told, is_asked=False)

    def _whole(self, directory: str, record: Record) -> Record:
        """One record of all: of other nodes and of earlier jobs by the receipts that they left."""
        ids = {run_id for run_id, _, _ in self._records}
        found = {_key(each): each for each in _receipts(directory) if each["run_id"] in ids}
        every = list({**found, **self._records}.values())
        nodes, seen = record.get("nodes") or 1, {each["node"] for each in every}
        if len(seen) < nodes:
            raise ConfigError(
                f"{len(seen)} of {nodes} nodes are known here; from Prometheus: emissions-exporter "
                f"report {record['run_id']} --prometheus URL --format json | emissions-exporter "
                "card write README.md --record /dev/stdin"
            )
        if len(every) == 1:
            return every[0]
        whole = combined(every, record["run_id"])
        return {**whole, "nodes": nodes, "labels": record.get("labels")}


def receipts_of(directory: str) -> str:
    """Where the receipts of an output directory are."""
    return os.path.join(directory, "emissions")


def leave_receipt(directory: str, record: Record) -> None:
    """Write one beside a checkpoint: who goes on from there finds the run by it. Raises OSError."""
    receipts.write(receipts_of(directory), record)


def last_run(directory: str) -> str:
    """The run that the newest receipt of an output directory is of; "" where there is none."""
    found = list(_receipts(receipts_of(directory)))
    return str(found[-1]["run_id"]) if found else ""


def keep_emissions(trainer: type) -> None:
    """Have the card written again after a Trainer, or a subclass of it, has made it anew."""
    for each in (trainer, *_subclasses(trainer)):
        written = vars(each).get("create_model_card")
        if written is not None and not hasattr(written, "keeps_emissions"):
            setattr(each, "create_model_card", _keeping(written))  # noqa: B010  a type has no such


def _keeping(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = write(self, *args, **kwargs)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, KeepsCard):
                callback.keep_card(self.args.output_dir)
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


def _receipts(directory: str) -> Iterator[dict[str, Any]]:
    """Those that can be read, the newest last."""
    paths = glob.glob(os.path.join(glob.escape(directory), "*.json"))
    for path in sorted(paths, key=os.path.getmtime):
        try:
            yield from records.read(path)
        except ConfigError as error:
            warn("not taken into account: %s", error)
