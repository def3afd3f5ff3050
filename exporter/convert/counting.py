"""What values count, for sources of which nobody but their owner knows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from exporter.model.intensity import Accounting, Basis, Kind, Signal, kilogram_error
from exporter.setting import key


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Options that say it."""

    signal: Literal["average", "marginal"] = key("average", "", "What its values count.")
    basis: Literal["lifecycle", "direct", "unstated"] = key("unstated", "", "The same.")
    accounting: Literal["location", "market"] = key("location", "", "The same.")

    @property
    def kind(self) -> Kind:
        """As the options say."""
        return Signal(self.signal), Basis(self.basis), Accounting(self.accounting)

    def unit_error(self, grams_per_kwh: Iterable[float]) -> str:
        """Why all of these values are taken for kg/kWh, and what to do; "" if they are not.

        Direct emissions, marginal ones and contracts can be that small: those of sun and wind.
        """
        if "marginal" in self.kind or "direct" in self.kind or "market" in self.kind:
            return ""
        error = kilogram_error(max(grams_per_kwh, default=0.0))
        return f"each value is below 1 g/kWh: {error}, or set basis to direct" if error else ""
