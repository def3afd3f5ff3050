"""All exceptions that this package raises deliberately.

EmissionsError
├── ConfigError          a setting is invalid
├── Unavailable          a source cannot work on this machine
├── SourceError          a source that worked before failed this time
│   └── FetchError       an intensity could not be fetched
├── RestartRequired      this process cannot recover, a new one can; exit code 75
├── LedgerError          the ledger could not be read or written
│   └── LedgerLocked     another daemon holds the lock of the ledger
├── MissingLibrary       a library of another tool is not installed
└── RequestRefused       the daemon rejected a request
"""


class EmissionsError(Exception):
    """Base class. The message is one sentence for the person who reads the log."""

    exit_code = 1
    """Exit code of a command that fails with this error."""


class ConfigError(EmissionsError):
    """A setting is invalid; the message has its path, its value and the accepted values."""


class Unavailable(EmissionsError):
    """A source cannot work on this machine; the message has the reason and the remedy."""


class SourceError(EmissionsError):
    """A source that worked before failed, or returned an unusable answer, this time."""


class FetchError(SourceError):
    """An intensity could not be fetched; the message contains no secrets.

    `outcome` is the kind of failure, as in `grid_intensity_requests_total`;
    `retry_after_seconds` is the delay that the server requires before a retry, 0 if it gave none.
    """

    def __init__(self, outcome: str, text: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class RestartRequired(EmissionsError):
    """This process cannot recover, but a new one can; the supervisor must restart the daemon.

    The daemon commits to the ledger before it exits.
    """

    exit_code = 75
    """EX_TEMPFAIL in sysexits.h."""


class LedgerError(EmissionsError):
    """The ledger could not be read or written."""


class LedgerLocked(LedgerError):
    """Another daemon holds the lock of the ledger."""


class RequestRefused(EmissionsError):
    """The daemon rejected a request.

    `status` is the HTTP status of the response; the message says what to do instead.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class MissingLibrary(EmissionsError, ImportError):
    """A library that only one integration needs is not installed; the message says how to."""
