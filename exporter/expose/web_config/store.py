"""The active web config and its reload."""

import logging
from typing import TYPE_CHECKING, NamedTuple

from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.expose.web_config.basic_auth import PasswordChecker
from exporter.expose.web_config.files import TrackedFiles
from exporter.model.workload import CollectorState
from exporter.setting import read_yaml
from exporter.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from exporter.expose.web_config.schema import RateLimit, WebConfig
    from exporter.expose.web_config.tls import TlsEndpoint


class TokenBucket:
    """A token bucket: one token per interval, at most a burst of them; initially full."""

    def __init__(self, rate: "RateLimit", clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at_ns = clock.monotonic_ns()

    def take(self) -> bool:
        """Take a token; returns whether there was one."""
        now_ns = self._clock.monotonic_ns()
        passed_seconds = (now_ns - self._at_ns) / NANOSECONDS_PER_SECOND
        self._at_ns = now_ns
        new_tokens = passed_seconds / self.rate.interval_seconds
        self._tokens = min(float(self.rate.burst), self._tokens + new_tokens)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


log = logging.getLogger(__name__)

COLLECTOR_NAME = "web_config"
"""Name of its state among the collectors."""
CHECK_INTERVAL_NS = NANOSECONDS_PER_SECOND
EXPENSIVE_BCRYPT_COST = 14
"""Above this bcrypt cost one check takes more than a second."""
OPEN_ACCESS_NOTE = "anyone who can reach the port can read"
REMEDY = "; if this is intended, send SIGHUP or restart"


class ActiveWebConfig(NamedTuple):
    """A web config in effect. By default access is unrestricted and unencrypted."""

    tls_endpoint: "TlsEndpoint | None" = None
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = ""
    """Content security policy that replaces the default ones; empty: the default ones."""
    passwords: PasswordChecker | None = None
    bucket: TokenBucket | None = None
    verified_bucket: TokenBucket | None = None
    """For requests whose password was verified before, so that no others use up their tokens."""


class WebConfigStore:
    """Holds the active web config. `reload_if_changed` may block on a disk.

    Without a path there are no rules.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        """Raises ConfigError."""
        self.path = path
        self.active = ActiveWebConfig()
        self.why = ""
        """Error of the newest file; the last valid one stays in effect."""
        self._clock = clock
        self._files = TrackedFiles()
        self._checked_ns = clock.monotonic_ns()
        self.notes: list[str] = []
        """Warnings about the file in effect."""
        if path:
            try:
                self._load(allow_weaker=True)
            except ConfigError as error:
                raise ConfigError(f"expose.web_config_file: {error}") from None

    @property
    def states(self) -> tuple[CollectorState, ...]:
        """Whether the newest file is in effect; empty if no file is configured."""
        return (CollectorState(COLLECTOR_NAME, not self.why, 0.0, self.why),) if self.path else ()

    def is_due(self) -> bool:
        """Whether a check for changes is due; at most once per second."""
        now_ns = self._clock.monotonic_ns()
        if not self.path or now_ns - self._checked_ns < CHECK_INTERVAL_NS:
            return False
        self._checked_ns = now_ns
        return True

    def reload_if_changed(self, *, allow_weaker: bool = False) -> None:
        """Load the file if it has changed and is valid; otherwise log the error once.

        Unless `allow_weaker`, a reload must not disable TLS or passwords: a file that is being
        written may look as if it did.
        """
        if not self.path or not (self.why or self._files.have_changed()):
            return
        last_error, last_notes = self.why, self.notes
        try:
            self._load(allow_weaker=allow_weaker)
        except ConfigError as error:
            self.why = str(error)
            if self.why != last_error:
                log.error(  # noqa: TRY400
                    "web config not reloaded, previous one kept",
                    extra={"error": str(error)},
                )
            return
        self.why = ""
        log.info("web config reloaded", extra={"file": self.path})
        for note in self.notes:
            if note not in last_notes:
                log.warning("web config note", extra={"note": note})

    def _load(self, *, allow_weaker: bool) -> None:
        # 3 ms that daemons without such a file do not need for their start.
        from exporter.expose.web_config.schema import parse_web_config
        from exporter.expose.web_config.tls import open_tls_endpoint

        files = self._files = TrackedFiles()
        where = self.path
        config = parse_web_config(read_yaml(files.read(where, "web config file"), where), where)
        old = self.active
        if not allow_weaker:
            _refuse_weaker_security(old, config, where)
        notes = _notes(config, where)
        endpoint = None
        if config.tls is not None:
            endpoint, more = open_tls_endpoint(config.tls, where, files, self._clock.wall())
            notes += more
        passwords = _passwords(config, old, where)
        if passwords is not None and passwords.cost > EXPENSIVE_BCRYPT_COST:
            notes.append(
                f"{where}: basic_auth_users: a bcrypt cost of {passwords.cost} takes seconds for "
                "each first request; 10 is usual"
            )
        self.active = ActiveWebConfig(
            endpoint,
            tuple(
                (name, value)
                for name, value in config.headers.items()
                if name not in FIXED_HEADER_NAMES
            ),
            config.headers.get("Content-Security-Policy", ""),
            passwords,
            _bucket(config.rate, old.bucket, self._clock),
            _bucket(config.rate, old.verified_bucket, self._clock),
        )
        self.notes = [*notes, *files.notes]


FIXED_HEADER_NAMES = ("Content-Security-Policy", "X-Content-Type-Options")
"""Headers that every response has anyway."""


def _refuse_weaker_security(old: ActiveWebConfig, new: "WebConfig", where: str) -> None:
    if old.tls_endpoint is not None and new.tls is None:
        raise ConfigError(
            f"{where}: tls_server_config was removed, which would disable TLS{REMEDY}"
        )
    if old.passwords is not None and not new.users:
        raise ConfigError(
            f"{where}: basic_auth_users was removed, which would disable passwords{REMEDY}"
        )


def _notes(config: "WebConfig", where: str) -> list[str]:
    notes = (
        [f"{where}: http2 is ignored: only HTTP/1.1 is supported"] if config.requests_http2 else []
    )
    if config.tls is None and not config.users:
        notes.append(
            f"{where}: has neither tls_server_config nor basic_auth_users: {OPEN_ACCESS_NOTE}"
        )
    return notes


def _passwords(config: "WebConfig", old: ActiveWebConfig, where: str) -> PasswordChecker | None:
    """Return the current checker if the users are unchanged, to keep its cache."""
    if not config.users:
        return None
    if old.passwords is not None and old.passwords.users == config.users:
        return old.passwords
    try:
        return PasswordChecker(config.users)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _bucket(rate: "RateLimit | None", old: TokenBucket | None, clock: Clock) -> TokenBucket | None:
    if rate is None:
        return None
    if old is not None and old.rate == rate:
        return old
    return TokenBucket(rate, clock)
