"""WattTime v3: marginal emissions in most grids of the world."""

from dataclasses import dataclass
from typing import Any, Literal

from exporter.convert.live import credentials
from exporter.convert.live.parse import (
    RawValue,
    bad_answer,
    clean_values,
    format_time,
    get_member,
    get_rows,
    parse_number,
    parse_time,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, IntensityKind, IntensityValue, Signal
from exporter.setting import setting
from exporter.units import GRAMS_PER_KWH_OF_LB_PER_MWH

PASSWORD_VARIABLE = "EMISSIONS_EXPORTER_WATTTIME_PASSWORD"  # noqa: S105  a name
SIGNALS = {"marginal": "co2_moer", "average": "co2_aoer"}
UNITS = {"lbs_co2_per_mwh": GRAMS_PER_KWH_OF_LB_PER_MWH}
STEP_SECONDS = 300.0
MIN_HISTORY_SECONDS = 3600.0
"""Shortest requested history: the newest point is a few minutes old."""


@dataclass(frozen=True, kw_only=True)
class WattTime:
    """Requires a user, a password and a plan for the region; CAISO_NORTH is free.

    `signal: marginal` (the default) is for `convert.second`: marginal intensity describes the
    effect of a decision and not what was emitted. WattTime's percentile index is not used.
    """

    region: str = setting("", "", "WattTime region, for example `CAISO_NORTH` or `PJM_NJ`.")
    username: str = setting("", "", "User name.")
    token_file: str = setting(
        "", "path", f"File with the password. Defaults to the variable `{PASSWORD_VARIABLE}`."
    )
    signal: Literal["marginal", "average"] = setting(
        "marginal", "", "`co2_moer` (marginal), or `co2_aoer` (average; historical only)."
    )
    url: str = setting("https://api.watttime.org", "URL", "Base URL of the API.")
    refresh_seconds: float = setting(300, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(3600, "seconds", "How long the last value is used.", least=0)

    publisher = "WattTime"
    country = ""

    @property
    def place(self) -> str:
        """The region."""
        return self.region

    @property
    def kind(self) -> IntensityKind:
        """Average or marginal direct emissions, location-based."""
        return Signal(self.signal), Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Check the secret; return warnings. Raises ConfigError for missing options."""
        if not self.region or not self.username:
            raise ConfigError(
                "region and username are required; see docs.watttime.org for the regions"
            )
        return credentials.check_credential(self.token_file, PASSWORD_VARIABLE)

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch history up to now and a forecast, whose first point replaces missing history."""
        password = http.redact(credentials.read_credential(self.token_file, PASSWORD_VARIABLE))
        url = self.url.rstrip("/")
        token = get_member(http.get(f"{url}/login", login=(self.username, password)), "token")
        if not token or not isinstance(token, str):
            raise bad_answer("WattTime accepted the login but sent no token")
        headers = {"Authorization": f"Bearer {http.redact(token)}"}

        def get(path: str, **more: str) -> Any:
            query = {"region": self.region, "signal_type": SIGNALS[self.signal], **more}
            return http.get(f"{url}/v3/{path}", query, headers=headers)

        forecast = self._forecast(get)
        start = format_time(min(since, now - MIN_HISTORY_SECONDS))
        try:
            past, rejected = self._values(get("historical", start=start, end=format_time(now)), now)
        except FetchError:
            if not forecast:
                raise
            past, rejected = (), 0
        past = past or tuple(value for value in forecast if value.start <= now < value.end)
        return FetchResult(require_values(past, rejected, self.publisher), forecast, rejected)

    def _forecast(self, get: Any) -> tuple[IntensityValue, ...]:
        """Fetch the forecast; empty if the plan does not include it."""
        if self.signal == "average":
            return ()
        try:
            values, _ = self._values(get("forecast", horizon_hours="24"))
        except FetchError:
            return ()
        return tuple(value._replace(estimated=True) for value in values)

    def _values(
        self, document: Any, now: float | None = None
    ) -> tuple[tuple[IntensityValue, ...], int]:
        meta = get_member(document, "meta")
        if get_member(meta, "region") != self.region:
            raise FetchError(
                "wrong_zone",
                f"WattTime sent values for {meta['region']!s:.40}, not for {self.region}",
            )
        unit = get_member(meta, "units")
        if not isinstance(unit, str) or unit not in UNITS:
            raise bad_answer(f"WattTime sent {unit!s:.40}, not pounds per megawatt hour")
        if meta.get("signal_type", SIGNALS[self.signal]) != SIGNALS[self.signal]:
            raise bad_answer(
                f"WattTime sent {meta['signal_type']!s:.40}, not {SIGNALS[self.signal]}"
            )
        step = parse_number(meta.get("data_point_period_seconds") or STEP_SECONDS)
        raws = [
            RawValue(
                parse_time(get_member(row, "point_time")),
                _to_grams_per_kwh(row.get("value"), UNITS[unit]),
            )
            for row in get_rows(document, "data")
        ]
        return clean_values(raws, step) if now is None else clean_values(raws, step, now)


def _to_grams_per_kwh(value: Any, factor: float) -> float | None:
    return None if value is None else parse_number(value) * factor
