"""Interfaces of live intensity sources: the source, its HTTP client and its result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from exporter.model.intensity import (
    Accounting,
    Basis,
    IntensityKind,
    IntensityValue,
    Signal,
    kg_per_kwh_error,
)
from exporter.setting import setting

OUTCOME_OK = "ok"
"""Outcome of a request with a valid current value."""
OUTCOME_SET_ASIDE = "set_aside"
"""Outcome of a request with implausible values, which were rejected."""
OUTCOME_STALE = "stale"
"""Outcome of a request without a value that is in force now."""
OUTCOME_STOPPED = "stopped"
"""Outcome of a request that was aborted because the exporter stops; not a failure."""


class FetchResult(NamedTuple):
    """Values and forecast of a source, earliest first; no two values have the same start."""

    values: tuple[IntensityValue, ...]
    forecast: tuple[IntensityValue, ...] = ()
    rejected_count: int = 0
    """Number of implausible values: negative, above any grid, or in the future."""
    publisher: str = ""
    """Publisher of the values, if it depends on the response."""
    place: str = ""
    """Zone of the values, if it depends on the response."""
    as_of: float | None = None
    """Unix time of the data, 0 if unknown; None: the start of each value."""


class HttpClient(Protocol):
    """Protocol of the HTTP client of a source."""

    def get(
        self,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> Any:
        """Return the JSON document at `url`. Raises FetchError."""

    def redact(self, secret: str) -> str:
        """Return the secret, and remove it from all error texts from now on."""


class LiveSource(Protocol):
    """Protocol of a live source.

    It is created from its options in the daemon, which reads its properties, and in the fetch
    process, which calls `fetch`.
    """

    @property
    def publisher(self) -> str:
        """Publisher of the values, which is shown with the emissions."""

    @property
    def place(self) -> str:
        """Zone or region in the source's own naming."""

    country: ClassVar[str]
    """ISO 3166-1 alpha-3 of the only country that the source covers; "" if several."""

    @property
    def kind(self) -> IntensityKind:
        """Signal, basis and accounting of the values."""

    @property
    def refresh_seconds(self) -> float:
        """Time between two successful requests; respects the rate limits of the source."""

    @property
    def max_age_seconds(self) -> float:
        """How long the last value is in force after its start, if its interval is shorter."""

    def check(self) -> tuple[str, ...]:
        """Check the options; return warnings. Raises ConfigError."""

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch values since `since`, including the one in force at `now`, and a forecast.

        Both times are Unix seconds. May block. Raises FetchError.
        """


@dataclass(frozen=True, kw_only=True)
class KindOptions:
    """Options for the kind of the values: signal, basis and accounting."""

    signal: Literal["average", "marginal"] = setting("average", "", "Signal of the values.")
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated", "", "Basis of the values."
    )
    accounting: Literal["location", "market"] = setting(
        "location", "", "Accounting method of the values."
    )

    @property
    def kind(self) -> IntensityKind:
        """The configured kind."""
        return Signal(self.signal), Basis(self.basis), Accounting(self.accounting)

    def unit_error(self, grams_per_kwh: Iterable[float]) -> str:
        """Return an error and its remedy if all values seem to be in kg/kWh, else "".

        Direct, marginal and market-based intensities of solar and wind power can be that small.
        """
        if "marginal" in self.kind or "direct" in self.kind or "market" in self.kind:
            return ""
        error = kg_per_kwh_error(max(grams_per_kwh, default=0.0))
        return f"each value is below 1 g/kWh: {error}, or set basis to direct" if error else ""
