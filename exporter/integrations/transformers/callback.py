"""Callback for the Trainer of Hugging Face Transformers."""

import functools
import math
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from exporter import units
from exporter.client import BudgetExceeded, Run, track
from exporter.client.log import warn
from exporter.errors import ConfigError
from exporter.integrations import import_optional
from exporter.integrations.transformers.trainer_card import (
    Record,
    TrainerCard,
    last_receipt,
    patch_create_model_card,
    receipts_directory,
    write_checkpoint_receipt,
)
from exporter.report import quantities
from exporter.report.card.facts import StatedFacts

INTERVAL_SECONDS = 1.0
SPEED_SUFFIXES = ("_runtime", "_per_second")
Event: TypeAlias = Callable[..., None]
Logs: TypeAlias = MutableMapping[str, Any]
TrainerCallback: Any = import_optional("transformers", "transformers").TrainerCallback


def _never_raises(event: Event) -> Event:
    """Wrap an event so that no exception stops the training; an exceeded budget ends it."""

    @functools.wraps(event)
    def guarded(
        self: "EmissionsCallback", args: Any, state: Any, control: Any, **more: Any
    ) -> None:
        try:
            event(self, args, state, control, **more)
        except BudgetExceeded as error:
            warn("stopping the training: %s", error)
            control.should_training_stop = True
        except Exception as error:  # noqa: BLE001  logged once
            self.warn_once(f"{event.__name__}: {error!r}")

    return guarded


class EmissionsCallback(TrainerCallback):  # type: ignore[misc]  # it has no types
    """Measure each training as a run: `callbacks=[EmissionsCallback()]` or `report_to="emissions"`.

    Each log line gets `energy_joules`, `energy_kwh` and `emissions_grams` of the run so far on this
    node, at most a second or two old, and `power_watts`, the mean since the previous line; the last
    line has the values of the whole training. Later callbacks receive them too. Receipts are in
    `emissions/` of the output directory. With `on_budget="raise"`, the training ends regularly when
    its budget is exceeded.
    """

    def __init__(
        self,
        name: str = "",
        *,
        training_type: str = "",
        location: str = "",
        hardware: str = "",
        provider: str = "",
        card: bool = True,
        **tracking: Any,
    ) -> None:
        """Configure the runs; `name` defaults to the name in the arguments.

        `tracking` is passed to `track`. `card` says whether the emissions, with the facts given
        here, are written to README.md of the output directory; see `emissions-exporter card write
        --help`. Raises TypeError and ValueError for invalid arguments of `track`.
        """
        super().__init__()
        track(name, **tracking)  # checks the arguments before the training
        self._name = name
        self._stated = StatedFacts(training_type, location, hardware, provider)
        self._cards: list[tuple[Any, TrainerCard]] = []
        """One per Trainer, each with the Trainer's control object, which identifies it."""
        self._card = TrainerCard(self._stated)
        """Card of the Trainer with the latest training."""
        self._has_card = card
        self._tracking = tracking
        self._tracker: track | None = None
        self._run = Run()
        self._summary: Logs = {}
        self._tokens = 0.0
        self._before: Record = {}
        self._power_watts: float | None = None
        self._is_first = True
        self._warned: set[str] = set()

    @_never_raises
    def on_init_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Patch the Trainer so that cards which it writes again keep their emissions."""
        trainer = getattr(sys.modules.get("transformers.trainer"), "Trainer", None)
        if trainer is not None and self._has_card:
            patch_create_model_card(trainer)

    @_never_raises
    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the run, or continue the run of the checkpoint."""
        self._end_run()  # left open if a training raised: the Trainer does not report its end
        self._run, self._summary = Run(), {}
        self._card = self._card_of(control)
        self._card.unmeasured += 1
        resumed = last_receipt(args.output_dir) if state.global_step else {}
        options = {
            "run_id": resumed.get("run_id", ""),
            "receipts": receipts_directory(args.output_dir),
            "codecarbon_csv": os.path.join(args.output_dir, "emissions.csv"),
            "progress": False,
            "interval_seconds": INTERVAL_SECONDS,
            **self._tracking,
            "labels": {
                **self._stated.labels(),
                **self._card.link(resumed),
                **self._tracking.get("labels", {}),
            },
        }
        self._is_first = state.is_world_process_zero
        self._tokens = _tokens(state)
        self._tracker = track(self._name or _title(args), **options)
        self._run = self._tracker.start()
        self._before, self._power_watts = self._run.record, None
        if self._run.record:
            self._card.unmeasured -= 1

    @_never_raises
    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Stop the training if its budget is exceeded and the action is "raise"."""
        self._run.check_budget()

    @_never_raises
    def on_log(
        self, _args: Any, state: Any, _control: Any, logs: Logs | None = None, **_: Any
    ) -> None:
        """Add the metrics to the log line, and report progress to the run."""
        if self._tracker is None or logs is None:
            return
        if "train_runtime" in logs:  # the last line of the training
            self._run.report_now()
            self._summary = logs
        self._add_to(logs, state)
        if self._is_first:
            self._update_run(state, logs)

    @_never_raises
    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Write a receipt next to the checkpoint."""
        if self._run.record and state.is_local_process_zero:
            write_checkpoint_receipt(args.output_dir, self._run.record)

    @_never_raises
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the run; add its final values to the last log line and to the card."""
        if self._tracker is None:
            return
        self._end_run()
        if self._summary:
            self._add_to(self._summary, state)
        self._summary = {}
        self.keep_card(args.output_dir, control)

    @_never_raises
    def on_push_begin(self, args: Any, _state: Any, control: Any, **_: Any) -> None:
        """Update the card before it is pushed to the Hub."""
        self.keep_card(args.output_dir, control)

    def keep_card(self, directory: str, control: Any) -> None:
        """Write the emissions of a Trainer's trainings so far to README.md; log errors."""
        card = self._card_of(control)
        if card is self._card and self._run.record:
            card.add(self._run.record)
        if not (self._has_card and self._is_first and card.records):
            return
        try:
            card.write(directory)
        except ConfigError as error:
            self.warn_once(f"model card not updated: {error}")
        except Exception as error:  # noqa: BLE001  logged; the Trainer continues
            self.warn_once(f"model card not updated: {error!r}")

    def warn_once(self, text: str) -> None:
        """Log a warning, unless it was logged before."""
        if text not in self._warned:
            self._warned.add(text)
            warn("%s", text)

    def _end_run(self) -> None:
        """End the open run, if any, and keep its record for the card of its Trainer."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None and (record := tracker.stop().record):
            self._card.add(record)

    def _card_of(self, control: Any) -> TrainerCard:
        """Return the card of the Trainer with this control object."""
        for known, card in self._cards:
            if known is control:
                return card
        card = TrainerCard(self._stated)
        self._cards.append((control, card))
        return card

    def _update_run(self, state: Any, logs: Mapping[str, Any]) -> None:
        """Send results, progress and tokens to the run."""
        self._run.log(**{name: value for name, value in logs.items() if _is_result(name, value)})
        tokens = _tokens(state)
        if tokens > self._tokens:
            self._run.count(tokens=tokens - self._tokens)
            self._tokens = tokens
        if state.max_steps > 0:
            self._run.progress(state.global_step, state.max_steps)

    def _add_to(self, logs: Logs, state: Any) -> None:
        """Add the metrics to a log line and to its copy in the history."""
        if not self._run.record or quantities.is_unread(self._run.record):
            return  # not measured, or no reading yet
        if logs is self._summary:
            self._power_watts = quantities.mean_watts(self._run.record)
        else:
            self._update_power()
        numbers = {
            "energy_joules": self._run.energy_joules,
            "energy_kwh": self._run.energy_kwh,
            "emissions_grams": self._run.emissions_grams,
            **({} if self._power_watts is None else {"power_watts": self._power_watts}),
        }
        logs.update(numbers)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(numbers)

    def _update_power(self) -> None:
        """Compute the mean power since the previous line; unchanged without a new record."""
        record, before = self._run.record, self._before
        duration_seconds = record["at"] - before.get("at", record["at"])
        if duration_seconds > 0:
            energy_uj = record["energy_uj"] - before["energy_uj"]
            self._power_watts = units.joules(energy_uj) / duration_seconds
        self._before = record


def _is_result(name: str, value: Any) -> bool:
    """Whether a logged value is a finite number that measures quality, not speed."""
    is_one = name in ("loss", "train_loss") or name.startswith("eval_")
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return is_one and is_number and not name.endswith(SPEED_SUFFIXES)


def _tokens(state: Any) -> float:
    """Return the tokens counted by the Trainer, which counts them only if configured."""
    return float(getattr(state, "num_input_tokens_seen", 0))


def _title(args: Any) -> str:
    name = getattr(args, "run_name", None) or args.output_dir
    return os.path.basename(os.path.abspath(str(name)))
