"""WattTime v3: what one kilowatt hour more emits, in most grids of the world."""

from dataclasses import dataclass
from typing import Any, Literal

from exporter.convert.live import secret
from exporter.convert.live.parse import (
    Raw,
    bad,
    known,
    member,
    moment,
    number,
    rows,
    spelled,
    values,
)
from exporter.convert.live.source import Answer, Http
from exporter.errors import ConfigError, FetchFailed
from exporter.model.intensity import Accounting, Basis, Kind, Signal, Value
from exporter.setting import key
from exporter.units import GRAMS_PER_KWH_OF_LB_PER_MWH

PASSWORD_VARIABLE = "EMISSIONS_EXPORTER_WATTTIME_PASSWORD"  # noqa: S105  a name
SIGNALS = {"marginal": "co2_moer", "average": "co2_aoer"}
UNITS = {"lbs_co2_per_mwh": GRAMS_PER_KWH_OF_LB_PER_MWH}
STEP_SECONDS = 300.0
LEAST_SECONDS = 3600.0
"""How far back is asked at least: the newest point is a few minutes old."""


@dataclass(frozen=True, kw_only=True)
class Watttime:
    """Needs a user and a password, and a plan for the region; CAISO_NORTH is free.

    `signal: marginal` (the default) is for `convert.second`: marginal intensity is about what a
    decision changes, and is no account of what was emitted. Its percentile index is not used.
    """

    region: str = key("", "", "Its region, for example `CAISO_NORTH` or `PJM_NJ`.")
    username: str = key("", "", "The user.")
    token_file: str = key(
        "", "path", f"Where the password is. Empty: the variable `{PASSWORD_VARIABLE}`."
    )
    signal: Literal["marginal", "average"] = key(
        "marginal", "", "`co2_moer`, or `co2_aoer`, which is historical only."
    )
    url: str = key("https://api.watttime.org", "URL", "Where it is.")
    refresh_seconds: float = key(300, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = key(3600, "seconds", "How long the last value holds.", least=0)

    publisher = "WattTime"
    country = ""

    @property
    def place(self) -> str:
        """Its region."""
        return self.region

    @property
    def kind(self) -> Kind:
        """Of the stack alone, by location."""
        return Signal(self.signal), Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Refuse what it cannot be asked with. Raises ConfigError."""
        if not self.region or not self.username:
            raise ConfigError("it needs region and username; see docs.watttime.org for the regions")
        return secret.check(self.token_file, PASSWORD_VARIABLE)

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """History up to now, and a forecast; its first point where there is no history."""
        password = http.hide(secret.read(self.token_file, PASSWORD_VARIABLE))
        url = self.url.rstrip("/")
        token = member(http.get(f"{url}/login", login=(self.username, password)), "token")
        if not token or not isinstance(token, str):
            raise bad("WattTime has let us in, but sent no token")
        headers = {"Authorization": f"Bearer {http.hide(token)}"}

        def ask(path: str, **more: str) -> Any:
            query = {"region": self.region, "signal_type": SIGNALS[self.signal], **more}
            return http.get(f"{url}/v3/{path}", query, headers=headers)

        ahead = self._ahead(ask)
        start = spelled(min(since, now - LEAST_SECONDS))
        try:
            past, set_aside = self._values(ask("historical", start=start, end=spelled(now)), now)
        except FetchFailed:
            if not ahead:
                raise
            past, set_aside = (), 0
        past = past or tuple(value for value in ahead if value.start <= now < value.end)
        return Answer(known(past, set_aside, self.publisher), ahead, set_aside)

    def _ahead(self, ask: Any) -> tuple[Value, ...]:
        """The forecast; nothing where the plan has none."""
        if self.signal == "average":
            return ()
        try:
            found, _ = self._values(ask("forecast", horizon_hours="24"))
        except FetchFailed:
            return ()
        return tuple(value._replace(estimated=True) for value in found)

    def _values(self, document: Any, now: float | None = None) -> tuple[tuple[Value, ...], int]:
        meta = member(document, "meta")
        if member(meta, "region") != self.region:
            raise FetchFailed(
                "wrong_zone", f"WattTime answered for {meta['region']!s:.40}, not {self.region}"
            )
        unit = member(meta, "units")
        if unit not in UNITS:
            raise bad(f"WattTime sent {unit!s:.40}, not pounds per megawatt hour")
        if meta.get("signal_type", SIGNALS[self.signal]) != SIGNALS[self.signal]:
            raise bad(f"WattTime sent {meta['signal_type']!s:.40}, not {SIGNALS[self.signal]}")
        step = number(meta.get("data_point_period_seconds") or STEP_SECONDS)
        raws = [
            Raw(moment(member(row, "point_time")), _grams(row.get("value"), UNITS[unit]))
            for row in rows(document, "data")
        ]
        return values(raws, step) if now is None else values(raws, step, now)


def _grams(value: Any, factor: float) -> float | None:
    return None if value is None else number(value) * factor
