"""CodeCarbon's interface over the daemon's measurements; changing the import is enough."""

from exporter.integrations.codecarbon.data import EmissionsData
from exporter.integrations.codecarbon.output import OutputMethod
from exporter.integrations.codecarbon.tracker import (
    EmissionsTracker,
    OfflineEmissionsTracker,
    TaskEmissionsTracker,
    track_emissions,
    track_task_emissions,
)

__all__ = (
    "EmissionsData",
    "EmissionsTracker",
    "OfflineEmissionsTracker",
    "OutputMethod",
    "TaskEmissionsTracker",
    "track_emissions",
    "track_task_emissions",
)
