"""Calls into NVML, each timed, each failure an exception that says what it calls for."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from exporter.model.readings import CallCost
from exporter.sample.sources.nvml.codes import FUNCTION_NOT_FOUND, MEANINGS, Reaction, reaction

LIBRARY = "libnvidia-ml.so.1"


class Failure(Exception):
    """A call that failed. `code` is its nvmlReturn_t."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: {MEANINGS.get(code, 'error')} (NVML error {code})")
        self.code = code
        self.reaction: Reaction = reaction(code)


class Driver:
    """One thread's way to NVML. `nvml` is the binding, imported by whoever opens the source."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._costs: dict[str, CallCost] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """The answer of one function of the binding. Raises Failure."""
        began = time.perf_counter()
        try:
            return getattr(self.nvml, name)(*arguments)
        except self.nvml.NVMLError as error:
            raise Failure(name, error.value) from None
        except AttributeError:  # a binding that is older than the function
            raise Failure(name, FUNCTION_NOT_FOUND) from None
        finally:
            before = self._costs.get(name, CallCost(0, 0.0))
            took = time.perf_counter() - began
            self._costs[name] = CallCost(before.calls + 1, before.seconds + took)

    def costs(self) -> Mapping[str, CallCost]:
        """What each function has cost so far."""
        return dict(self._costs)


def total_costs(drivers: Iterable[Driver]) -> dict[str, CallCost]:
    """The costs of several threads together."""
    total: dict[str, CallCost] = {}
    for driver in drivers:
        for name, cost in driver.costs().items():
            before = total.get(name, CallCost(0, 0.0))
            total[name] = CallCost(before.calls + cost.calls, before.seconds + cost.seconds)
    return total
