"""Labels as they are given on a command line."""

from collections.abc import Iterable

from exporter.errors import ConfigError


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Names and values of texts as team=nlp; the last of a name counts. Raises ConfigError."""
    return dict(_pair(text) for text in texts)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"--label {text}: expected NAME=VALUE, as in --label team=nlp")
    return name, value
