"""What values count, for sources of which nobody but their owner knows it."""

from dataclasses import dataclass
from typing import Literal

from exporter.model.intensity import Accounting, Basis, Kind, Signal
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
