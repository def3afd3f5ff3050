"""WattTime v3: what one kilowatt hour more emits, in most grids of the world."""

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
"""How far back is asked at least: the newest point is a few minutes old."""


@dataclass(frozen=True, kw_only=True)
class WattTime:
    """Needs a user and a password, and a plan for the region; CAISO_NORTH is free.

    `signal: marginal` (the default) is for `convert.second`: marginal intensity is about what a
    decision changes, and is no account of what was emitted. Its percentile index is not used.
    """

    region: str = setting("", "", "Its region, for example `CAISO_NORTH` or `PJM_NJ`.")
    username: str = setting("", "", "The user.")
    token_file: str = setting(
        "", "path", f"Where the password is. Empty: the variable `{PASSWORD_VARIABLE}`."
    )
    signal: Literal["marginal", "average"] = setting(
        "marginal", "", "`co2_moer`, or `co2_aoer`, which is historical only."
    )
    url: str = setting("https://api.watttime.org", "URL", "Where it is.")
    refresh_seconds: float = setting(300, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(3600, "seconds", "How long the last value holds.", least=0)

    publisher = "WattTime"
    country = ""

    @property
    def place(self) -> str:
        """Its region."""
        return self.region

    @property
    def kind(self) -> IntensityKind:
        """Of the stack alone, by location."""
        return Signal(self.signal), Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Refuse what it cannot be asked with. Raises ConfigError."""
        if not self.region or not self.username:
            raise ConfigError("it needs region and username; see docs.watttime.org for the regions")
        return credentials.check_credential(self.token_file, PASSWORD_VARIABLE)

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """History up to now, and a forecast; its first point where there is no history."""
        password = http.redact(credentials.read_credential(self.token_file, PASSWORD_VARIABLE))
        url = self.url.rstrip("/")
        token = get_member(http.get(f"{url}/login", login=(self.username, password)), "token")
        if not token or not isinstance(token, str):
            raise bad_answer("WattTime has let us in, but sent no token")
        headers = {"Authorization": f"Bearer {http.redact(token)}"}

        def ask(path: str, **more: str) -> Any:
            query = {"region": self.region, "signal_type": SIGNALS[self.signal], **more}
            return http.get(f"{url}/v3/{path}", query, headers=headers)

        ahead = self._ahead(ask)
        start = format_time(min(since, now - MIN_HISTORY_SECONDS))
        try:
            past, set_aside = self._values(
                ask("historical", start=start, end=format_time(now)), now
            )
        except FetchError:
            if not ahead:
                raise
            past, set_aside = (), 0
        past = past or tuple(value for value in ahead if value.start <= now < value.end)
        return FetchResult(require_values(past, set_aside, self.publisher), ahead, set_aside)

    def _ahead(self, ask: Any) -> tuple[IntensityValue, ...]:
        """The forecast; nothing where the plan has none."""
        if self.signal == "average":
            return ()
        try:
            found, _ = self._values(ask("forecast", horizon_hours="24"))
        except FetchError:
            return ()
        return tuple(value._replace(estimated=True) for value in found)

    def _values(
        self, document: Any, now: float | None = None
    ) -> tuple[tuple[IntensityValue, ...], int]:
        meta = get_member(document, "meta")
        if get_member(meta, "region") != self.region:
            raise FetchError(
                "wrong_zone", f"WattTime answered for {meta['region']!s:.40}, not {self.region}"
            )
        unit = get_member(meta, "units")
        if unit not in UNITS:
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
