"""A plugin of pytest that has our classes in the place of CodeCarbon's, for CodeCarbon's own tests.

Private names that those tests patch before their body runs exist as stubs, which do what they do in
CodeCarbon where there is no cloud and nothing to be measured. What is asserted is not changed. The
outcome of each test that makes a tracker is written to the file that OUTCOMES names.
"""

import json
import os
import sys
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import codecarbon
import codecarbon.emissions_tracker as theirs
import pytest
from codecarbon.external.geography import CloudMetadata, GeoMetadata

from exporter.integrations import codecarbon as ours
from exporter.integrations.codecarbon import tracker as tracker_module

CLASSES = ("EmissionsTracker", "OfflineEmissionsTracker", "TaskEmissionsTracker")
DECORATORS = ("track_emissions", "track_task_emissions")
NOTHING = (
    *("_measure_power", "_monitor_power", "_ensure_emissions_engine", "_ensure_hardware_ready"),
    "_resolve_offline_country_name",
)
USED: list[str] = []
"""What the test that runs has used of ours."""


def noting(name: str, function: Any) -> Any:
    def call(*given: Any, **named: Any) -> Any:
        USED.append(name)
        return function(*given, **named)

    return call


def pytest_configure() -> None:
    driver = ModuleType("tests.fake_modules.pynvml")  # it is not in the source distribution
    vars(driver).update(DETAILS={}, INIT_MOCK=Mock())
    modules = ModuleType("tests.fake_modules")
    vars(modules).update(pynvml=driver)
    sys.modules.update({"tests.fake_modules": modules, "tests.fake_modules.pynvml": driver})

    tracker = ours.EmissionsTracker
    tracker.__init__ = noting("tracker", tracker.__init__)
    for name in NOTHING:
        setattr(tracker, name, lambda _: None)
    tracker._get_cloud_metadata = lambda _: CloudMetadata(provider=None, region=None)
    tracker._get_geo_metadata = lambda _: GeoMetadata(country_iso_code=None)
    for name in (*CLASSES, *DECORATORS):
        value = getattr(ours, name)
        value = noting(name, value) if name in DECORATORS else value
        for module in (codecarbon, theirs):
            setattr(module, name, value)
    # Where a test replaces the class, the decorator uses what the test put there.
    for name in CLASSES[:2]:
        setattr(tracker_module, name, lambda _name=name, **named: getattr(theirs, _name)(**named))


def pytest_runtest_setup() -> None:
    USED.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and USED:
        with open(os.environ["OUTCOMES"], "a", encoding="utf-8") as file:
            name = report.nodeid.rpartition("::")[2]
            reason = str(report.longrepr).splitlines()[-1] if report.failed else ""
            file.write(json.dumps([name, report.outcome, reason]) + "\n")
