"""Other tools of machine learning, one file for each; their libraries are imported when used."""

import importlib
from types import ModuleType

from exporter.errors import MissingLibrary


def import_optional(module: str, extra: str) -> ModuleType:
    """The library of a tool. Raises MissingLibrary, which says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"{error.name} is not installed; run: pip install 'emissions-exporter[{extra}]'"
        ) from None
