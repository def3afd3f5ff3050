"""What is said where the library is not installed."""

import importlib
import sys

import pytest

from exporter.errors import MissingLibrary


def test_a_missing_library_is_said_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'emissions-exporter\[transformers\]'"):
        importlib.import_module("exporter.integrations.transformers")
