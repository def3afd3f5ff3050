"""The versions of what a program runs on."""

import sys
from types import SimpleNamespace

from exporter.client import software


def test_imported_libraries_are_named_with_their_versions(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.9.1"))
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace())
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    said = software()
    assert said.startswith(f"Python {sys.version.split()[0]}, torch 2.9.1")
    assert "jax" not in said
    assert "tensorflow" not in said


def test_it_fits_into_a_label(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="\u00fc" * 2_000))
    assert len(software().encode()) <= 512
