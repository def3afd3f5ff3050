"""Values of the model made again from the plain ones that JSON and SQLite keep."""

from collections.abc import Iterable
from typing import Any

from exporter.model.intensity import Accounting, Basis, Factor, Signal
from exporter.model.readings import Device, Kind
from exporter.model.runs import Owner


def device(values: Iterable[str]) -> Device:
    """A device of its two fields."""
    kind, name = values
    return Device(Kind(kind), name)


def owner(values: Iterable[Any]) -> Owner:
    """An owner of its fields, in their order."""
    user, namespace, labels = values
    return Owner(user, namespace, tuple((name, value) for name, value in labels))


def factor(values: Iterable[Any]) -> Factor:
    """A factor of its fields, in their order."""
    plain = Factor(*values)
    return plain._replace(
        signal=Signal(plain.signal),
        basis=Basis(plain.basis),
        accounting=Accounting(plain.accounting),
        estimated=bool(plain.estimated),
    )
