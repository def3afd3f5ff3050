"""Reads tokens and passwords from a file or the environment; never from the settings."""

import os
import stat

from exporter.convert import regular_file
from exporter.errors import ConfigError, SourceError

MOST_BYTES = 16_384
WRITE = "it must contain the token and nothing else"


def read_credential(path: str, variable: str) -> str:
    """Return the secret in the file at `path`; without a path, that in the environment variable.

    Raises ConfigError, which names the place and never its contents.
    """
    if not path:
        secret = os.environ.get(variable, "").strip()
        if not secret:
            raise ConfigError(
                f"no token: set its file with the option token_file, or set {variable} in the "
                "exporter's environment"
            )
        return _one_line(secret, variable)
    try:
        secret = regular_file.read(path, MOST_BYTES).decode().strip()
    except SourceError as error:
        raise ConfigError(f"token file {path} {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"token file {path} is not text; {WRITE}") from None
    if not secret:
        raise ConfigError(f"token file {path} is empty; {WRITE}")
    return _one_line(secret, f"token file {path}")


def has_credential(path: str, variable: str) -> bool:
    """Return whether a secret is configured, valid or not; for sources where it is optional."""
    return bool(path or os.environ.get(variable, "").strip())


def check_credential(path: str, variable: str) -> tuple[str, ...]:
    """Check the secret; return warnings about its file. Raises ConfigError."""
    read_credential(path, variable)
    if path and os.stat(path).st_mode & stat.S_IROTH:
        return (f"token file {path} is world-readable: run `chmod o-r {path}`",)
    return ()


def _one_line(secret: str, place: str) -> str:
    if not secret.isprintable() or not secret.isascii():
        raise ConfigError(f"{place} must be one line of printable ASCII; {WRITE}")
    return secret
