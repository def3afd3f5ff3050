"""The web config that is in force, and the look for a newer one."""

import logging
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.expose.web_config.basic_auth import PasswordChecker
from exporter.expose.web_config.files import TrackedFiles
from exporter.expose.web_config.schema import RateLimit, WebConfig, parse_web_config
from exporter.expose.web_config.tls import TlsEndpoint, open_tls_endpoint
from exporter.model.workload import CollectorState
from exporter.setting import read_yaml
from exporter.units import NANOSECONDS_PER_SECOND


class TokenBucket:
    """Gives one token per interval, and keeps a burst of them at most; full at first."""

    def __init__(self, rate: RateLimit, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at_ns = clock.monotonic_ns()

    def take(self) -> bool:
        """Whether there was one."""
        now_ns = self._clock.monotonic_ns()
        passed_seconds = (now_ns - self._at_ns) / NANOSECONDS_PER_SECOND
        self._at_ns = now_ns
        gained = passed_seconds / self.rate.interval_seconds
        self._tokens = min(float(self.rate.burst), self._tokens + gained)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


log = logging.getLogger(__name__)

COLLECTOR_NAME = "web_config"
"""As a collector."""
CHECK_INTERVAL_NS = NANOSECONDS_PER_SECOND
EXPENSIVE_BCRYPT_COST = 14
"""From a bcrypt cost above this on, one check takes more than a second."""
OPEN_ACCESS_NOTE = "whoever reaches the port may read"
REMEDY = "; send SIGHUP or restart, if that is meant"


class ActiveWebConfig(NamedTuple):
    """What a web config asks for, ready to be used. None of it: everybody may ask, unencrypted."""

    tls_endpoint: TlsEndpoint | None = None
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = ""
    """A content security policy in place of our own; "" for ours."""
    passwords: PasswordChecker | None = None
    bucket: TokenBucket | None = None


class WebConfigStore:
    """Holds the rules; `look` renews them, in a thread that may wait for a disk.

    Without a path there are no rules.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        """Raises ConfigError."""
        self.path = path
        self.active = ActiveWebConfig()
        self.why = ""
        """What is wrong with the newest file; the rules are those of the one before."""
        self._clock = clock
        self._files = TrackedFiles()
        self._looked_ns = clock.monotonic_ns()
        self.notes: list[str] = []
        """What a person should know about the file in force."""
        if path:
            self._load(allow_weaker=True)

    @property
    def states(self) -> tuple[CollectorState, ...]:
        """Whether the newest file is in force; nothing where there is no file."""
        return (CollectorState(COLLECTOR_NAME, not self.why, 0.0, self.why),) if self.path else ()

    def is_due(self) -> bool:
        """Whether it is time to look; it is not again for a second."""
        now_ns = self._clock.monotonic_ns()
        if not self.path or now_ns - self._looked_ns < CHECK_INTERVAL_NS:
            return False
        self._looked_ns = now_ns
        return True

    def reload_if_changed(self, *, allow_weaker: bool = False) -> None:
        """Take the newest file, if it is another one and good; else say once what is wrong.

        What is changed while the daemon serves may not take TLS or the passwords away, unless it
        `allow_weaker`: a file that is written at this moment looks as if it did.
        """
        if not self.path or not (self.why or self._files.have_changed()):
            return
        before, noted = self.why, self.notes
        try:
            self._load(allow_weaker=allow_weaker)
        except ConfigError as error:
            self.why = str(error)
            if self.why != before:
                log.error("web config not reloaded, the old one stays: %s", error)  # noqa: TRY400
            return
        self.why = ""
        log.info("web config reloaded: %s", self.path)
        for note in self.notes:
            if note not in noted:
                log.warning(note)

    def _load(self, *, allow_weaker: bool) -> None:
        files = self._files = TrackedFiles()
        where = self.path
        config = parse_web_config(read_yaml(files.read(where, "web config file"), where), where)
        old = self.active
        if not allow_weaker:
            _refuse_weaker_security(old, config, where)
        notes = _notes(config, where)
        entrance = None
        if config.tls is not None:
            entrance, more = open_tls_endpoint(config.tls, where, files, self._clock.wall())
            notes += more
        passwords = _passwords(config, old, where)
        if passwords is not None and passwords.cost > EXPENSIVE_BCRYPT_COST:
            notes.append(
                f"{where}: basic_auth_users: a bcrypt cost of {passwords.cost} takes seconds for "
                "each first request; 10 is usual"
            )
        self.active = ActiveWebConfig(
            entrance,
            tuple(
                (name, value)
                for name, value in config.headers.items()
                if name not in FIXED_HEADER_NAMES
            ),
            config.headers.get("Content-Security-Policy", ""),
            passwords,
            _bucket(config.rate, old, self._clock),
        )
        self.notes = [*notes, *files.notes]


FIXED_HEADER_NAMES = ("Content-Security-Policy", "X-Content-Type-Options")
"""Headers that every answer has anyway."""


def _refuse_weaker_security(old: ActiveWebConfig, new: WebConfig, where: str) -> None:
    if old.tls_endpoint is not None and new.tls is None:
        raise ConfigError(f"{where}: tls_server_config is gone, TLS would end{REMEDY}")
    if old.passwords is not None and not new.users:
        raise ConfigError(f"{where}: basic_auth_users is gone, no password would be needed{REMEDY}")


def _notes(config: WebConfig, where: str) -> list[str]:
    notes = [f"{where}: http2: HTTP/1.1 is spoken"] if config.requests_http2 else []
    if config.tls is None and not config.users:
        notes.append(
            f"{where}: has neither tls_server_config nor basic_auth_users: {OPEN_ACCESS_NOTE}"
        )
    return notes


def _passwords(config: WebConfig, old: ActiveWebConfig, where: str) -> PasswordChecker | None:
    """Those of before where the users are the same, since they know who was right."""
    if not config.users:
        return None
    if old.passwords is not None and old.passwords.users == config.users:
        return old.passwords
    try:
        return PasswordChecker(config.users)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _bucket(rate: RateLimit | None, old: ActiveWebConfig, clock: Clock) -> TokenBucket | None:
    if rate is None:
        return None
    if old.bucket is not None and old.bucket.rate == rate:
        return old.bucket
    return TokenBucket(rate, clock)
