"""Energy and power of one card."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, Reading
from exporter.sample.counter import PENDING_NS, is_plausible_uj, is_plausible_watts
from exporter.sample.sources.nvml.capabilities import Capabilities
from exporter.sample.sources.nvml.codes import SUCCESS, Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.units import MICROJOULES_PER_JOULE

MILLI = 1000
MICROJOULES_PER_MILLIJOULE = MICROJOULES_PER_JOULE // MILLI
ENERGY, AVERAGE, INSTANT = 83, 185, 186
"""Fields of NVML: energy since the driver was loaded in mJ, power over 1 s and of now in mW."""
CARD, MODULE = 0, 1
"""Scopes of the power fields: the card, or the superchip module that it is a part of."""
ENERGY_CALL, POWER_CALL = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"


NOTHING = "the driver gives neither energy nor power of this GPU"
IMPLAUSIBLE = "the driver gives no energy of this GPU, and {watts:,.0f} W, which it cannot draw"


class Values(NamedTuple):
    """What a card says; None: it does not."""

    energy_mj: int | None
    power_mw: int | None
    implausible_mw: int | None = None
    """A power that is not believed."""


class Meter:
    """Reads one card: all fields in one call, and single calls for what fields do not give.

    A field that a card does not know may come with success and the value 0, so 0 is no answer, and
    neither is a value that no card can have. An error of one field, or of the call for all, counts
    only if nothing else gives a value.
    """

    def __init__(
        self, driver: Driver, clock: Clock, device: Device, epoch: str, *, is_module: bool = False
    ) -> None:
        """`is_module`: the energy counter is of a whole module, so the power is to be as well."""
        scopes = (MODULE, CARD) if is_module else (CARD,)
        self._powers = tuple((field, scope) for scope in scopes for field in (AVERAGE, INSTANT))
        self.driver = driver
        self._clock = clock
        self._device = device
        self._epoch = epoch
        self._can = Capabilities()
        self._failure: Failure | None = None
        """The first error of the reading under way that is more than a refusal."""
        self.lacks_counter = False
        """Whether the card has shown power for long and never a counter, without any error."""
        self._has_counted = False
        self._uncounted_ns: int | None = None
        """Since when that is so."""

    def forget(self) -> None:
        """Ask again for what the card has refused."""
        self._can.forget()

    def read(self, handle: Any, cap_watts: float) -> Reading:
        """Counter and power now, power up to a bound. Raises Failure if there is no answer."""
        energy_mj, power_mw, implausible_mw = self._values(handle, cap_watts)
        why = ""
        if energy_mj is None and power_mw is None:
            why = IMPLAUSIBLE.format(watts=implausible_mw / MILLI) if implausible_mw else NOTHING
        return Reading(
            self._device,
            self._clock.boottime_ns(),
            self._epoch,
            counter_uj=None if energy_mj is None else energy_mj * MICROJOULES_PER_MILLIJOULE,
            power_watts=None if power_mw is None else power_mw / MILLI,
            why=why,
            awake_ns=self._clock.monotonic_ns(),
        )

    def _values(self, handle: Any, cap_watts: float) -> Values:
        now_ns = self._clock.boottime_ns()
        self._failure = None
        fields = self._fields(handle, now_ns)
        energy_mj = _plausible_mj(fields.get((ENERGY, CARD))) or _plausible_mj(
            self._single(ENERGY_CALL, handle, now_ns)
        )
        power_mw = implausible_mw = None
        for mw in self._powers_mw(fields, handle, now_ns):
            if is_plausible_watts(mw / MILLI, cap_watts):
                power_mw = mw
                break
            implausible_mw = mw
        if self._failure is not None and energy_mj is None and power_mw is None:
            raise self._failure
        self._note_counter(energy_mj, power_mw, now_ns)
        return Values(energy_mj, power_mw, implausible_mw)

    def _powers_mw(
        self, fields: Mapping[tuple[int, int], int], handle: Any, now_ns: int
    ) -> Iterator[int]:
        """Every power that the card gives, the best first; the last is asked for only then."""
        yield from (fields[power] for power in self._powers if power in fields)
        single = self._single(POWER_CALL, handle, now_ns)
        if single is not None:
            yield single

    def _note_counter(self, energy_mj: int | None, power_mw: int | None, now_ns: int) -> None:
        self._has_counted = self._has_counted or energy_mj is not None
        if self._has_counted or power_mw is None or self._failure is not None:
            self._uncounted_ns = None
        elif self._uncounted_ns is None:
            self._uncounted_ns = now_ns
        since_ns = self._uncounted_ns
        self.lacks_counter = since_ns is not None and now_ns - since_ns >= PENDING_NS

    def _fields(self, handle: Any, now_ns: int) -> dict[tuple[int, int], int]:
        """Values above 0 by field and scope."""
        fields = ((ENERGY, CARD), *self._powers)
        wanted = [field for field in fields if self._can.has(field, now_ns)]
        name = "nvmlDeviceGetFieldValues"
        if not wanted or not self._can.has(name, now_ns):
            return {}
        try:
            answers = self.driver.call(name, handle, wanted)
        except Failure as failure:
            self._failed(failure, name, now_ns)
            return {}
        self._can.works(name)
        values = {}
        for field, answer in zip(wanted, answers, strict=True):
            value = _value(answer) if answer.nvmlReturn == SUCCESS else 0
            if value:
                values[field] = value
                self._can.works(field)
            else:
                self._failed(Failure(name, answer.nvmlReturn), field, now_ns)
        return values

    def _single(self, name: str, handle: Any, now_ns: int) -> int | None:
        if not self._can.has(name, now_ns):
            return None
        try:
            value = int(self.driver.call(name, handle))
        except Failure as failure:
            self._failed(failure, name, now_ns)
            return None
        self._can.works(name)
        return value or None

    def _failed(self, failure: Failure, what: object, now_ns: int) -> None:
        """Go on without `what`. Raises what the rest of the reading cannot go on without."""
        if failure.reaction is Reaction.CAPABILITY or failure.code == SUCCESS:
            self._can.refused(what, now_ns)
        elif failure.reaction in (Reaction.DEVICE, Reaction.LIBRARY, Reaction.PROCESS):
            raise failure
        else:
            self._failure = self._failure or failure


def _plausible_mj(energy_mj: int | None) -> int | None:
    if energy_mj is None or not is_plausible_uj(energy_mj * MICROJOULES_PER_MILLIJOULE):
        return None
    return energy_mj


def _value(answer: Any) -> int:
    """The number in a field's union, by the type that the driver names."""
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")
    if not 0 <= answer.valueType < len(kinds):
        return 0
    value = getattr(answer.value, kinds[answer.valueType])
    return max(0, int(value)) if math.isfinite(value) else 0
