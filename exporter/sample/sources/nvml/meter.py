"""Energy and power of one card."""

from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, Reading
from exporter.sample.sources.nvml.capabilities import Capabilities
from exporter.sample.sources.nvml.codes import SUCCESS, Reaction, reaction
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.units import MICROJOULES_PER_JOULE

MILLI = 1000
MICROJOULES_PER_MILLIJOULE = MICROJOULES_PER_JOULE // MILLI
ENERGY, AVERAGE, INSTANT = 83, 185, 186
"""Fields of NVML: energy since the driver was loaded in mJ, power over 1 s and of now in mW."""
WHOLE_CARD = 0
FIELDS = (ENERGY, AVERAGE, INSTANT)
ENERGY_CALL, POWER_CALL = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"


class Values(NamedTuple):
    """What a card says; None: it does not."""

    energy_mj: int | None
    power_mw: int | None


class Meter:
    """Reads one card: all fields in one call, and single calls for what fields do not give.

    A field that a card does not know may come with success and the value 0, so 0 is no answer.
    """

    def __init__(self, driver: Driver, clock: Clock, device: Device, epoch: str) -> None:
        self.driver = driver
        self._clock = clock
        self._device = device
        self._epoch = epoch
        self._can = Capabilities()

    def read(self, handle: Any) -> Reading:
        """Counter and power now. Raises Failure if the card does not answer at all."""
        values = self._values(handle)
        energy_mj, power_mw = values
        return Reading(
            self._device,
            self._clock.boottime_ns(),
            self._epoch,
            counter_uj=None if energy_mj is None else energy_mj * MICROJOULES_PER_MILLIJOULE,
            power_watts=None if power_mw is None else power_mw / MILLI,
            why="" if any(values) else "the driver gives neither energy nor power of this GPU",
            awake_ns=self._clock.monotonic_ns(),
        )

    def _values(self, handle: Any) -> Values:
        now_ns = self._clock.boottime_ns()
        fields = self._fields(handle, now_ns)
        energy_mj = fields.get(ENERGY) or self._single(ENERGY_CALL, handle, now_ns)
        power_mw = fields.get(AVERAGE) or fields.get(INSTANT)
        return Values(energy_mj, power_mw or self._single(POWER_CALL, handle, now_ns))

    def _fields(self, handle: Any, now_ns: int) -> dict[int, int]:
        wanted = [(field, WHOLE_CARD) for field in FIELDS if self._can.has(field, now_ns)]
        name = "nvmlDeviceGetFieldValues"
        if not wanted or not self._can.has(name, now_ns):
            return {}
        try:
            answers = self.driver.call(name, handle, wanted)
        except Failure as failure:
            if failure.reaction is not Reaction.CAPABILITY:
                raise
            self._can.refused(name, now_ns)
            return {}
        self._can.works(name)
        values = {}
        for answer in answers:
            value = _value(answer)
            if answer.nvmlReturn == SUCCESS and value:
                values[answer.fieldId] = value
                self._can.works(answer.fieldId)
                continue
            meaning = reaction(answer.nvmlReturn)
            if meaning in (Reaction.DEVICE, Reaction.ENVIRONMENT, Reaction.LIBRARY):
                raise Failure(name, answer.nvmlReturn)
            if meaning is not Reaction.TRANSIENT:
                self._can.refused(answer.fieldId, now_ns)
        return values

    def _single(self, name: str, handle: Any, now_ns: int) -> int | None:
        if not self._can.has(name, now_ns):
            return None
        try:
            value = int(self.driver.call(name, handle))
        except Failure as failure:
            if failure.reaction is Reaction.CAPABILITY:
                self._can.refused(name, now_ns)
            elif failure.reaction is not Reaction.TRANSIENT:
                raise
            return None
        self._can.works(name)
        return value or None


def _value(answer: Any) -> int:
    """The number in a field's union, by the type that the driver names."""
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")
    if not 0 <= answer.valueType < len(kinds):
        return 0
    return max(0, int(getattr(answer.value, kinds[answer.valueType])))
