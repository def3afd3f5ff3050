"""Tokens and passwords: from a file, else from the environment; never from the settings."""

import os
import stat

from exporter.convert import regular_file
from exporter.errors import ConfigError, SourceError

MOST_BYTES = 16_384
WRITE = "write the token, and nothing else, into it"


def read_credential(path: str, variable: str) -> str:
    """The secret in the file at `path`; without a path, that in the environment.

    Raises ConfigError, which names the place and never what was found there.
    """
    if not path:
        secret = os.environ.get(variable, "").strip()
        if not secret:
            raise ConfigError(
                f"no token: name its file with the option token_file, or set {variable} in the "
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
    """Whether there is one, good or not; for sources that can do without."""
    return bool(path or os.environ.get(variable, "").strip())


def check_credential(path: str, variable: str) -> tuple[str, ...]:
    """What a person should know about where the secret is. Raises ConfigError."""
    read_credential(path, variable)
    if path and os.stat(path).st_mode & stat.S_IROTH:
        return (f"token file {path} can be read by everybody: chmod o-r {path}",)
    return ()


def _one_line(secret: str, place: str) -> str:
    if not secret.isprintable() or not secret.isascii():
        raise ConfigError(f"{place} has something else than one line of ASCII in it; {WRITE}")
    return secret
