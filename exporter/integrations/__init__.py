"""Integrations with ML libraries and tools, one module each; libraries are imported on use."""

import importlib
from types import ModuleType

from exporter.errors import MissingLibrary


def import_optional(module: str, extra: str) -> ModuleType:
    """Import an optional library. Raises MissingLibrary with the command to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"{error.name} is not installed; run: pip install 'emissions-exporter[{extra}]'"
        ) from None
