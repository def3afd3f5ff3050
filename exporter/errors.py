"""Every error that this package raises on purpose.

EmissionsError
├── ConfigError          a setting is wrong; says which, why, and what would be right
├── Unavailable          a source cannot work on this machine; says why and the remedy
├── SourceError          a source that worked gave no usable answer this time
│   └── FetchFailed      an intensity could not be fetched
├── Outdated             this process can never work again, a new one can: exit 75
├── LedgerError          the ledger could not be read or written
│   └── LedgerLocked     another daemon holds it
├── MissingLibrary       a library of another tool is not installed; says how to
└── Refused              the daemon declines a request; says what to do instead
"""


class EmissionsError(Exception):
    """Base of all; its text is one sentence for the person who reads the log."""

    exit_code = 1
    """Of a command that ends because of it."""


class ConfigError(EmissionsError):
    """A setting is wrong; the text names its path, its value and what would be accepted."""


class Unavailable(EmissionsError):
    """A source cannot work on this machine; the text gives the reason and the remedy."""


class SourceError(EmissionsError):
    """A source that worked before gave no usable answer this time."""


class FetchError(SourceError):
    """An intensity could not be fetched; the text is free of secrets.

    `outcome` names the kind of failure, as in `grid_intensity_requests_total`;
    `retry_after_seconds` is how long the server wants to be left alone, 0 where it does not say.
    """

    def __init__(self, outcome: str, text: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class RestartRequired(EmissionsError):
    """This process can never work again, and a new one can; the supervisor is to start one.

    The daemon commits first.
    """

    exit_code = 75
    """EX_TEMPFAIL of sysexits.h."""


class LedgerError(EmissionsError):
    """The ledger could not be read or written."""


class LedgerLocked(LedgerError):
    """Another daemon holds the ledger."""


class RequestRefused(EmissionsError):
    """The daemon declines a request.

    `status` is the HTTP status of the answer; the text says what to do instead.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class MissingLibrary(EmissionsError, ImportError):
    """A library that one integration alone needs is not installed; the text says how to."""
