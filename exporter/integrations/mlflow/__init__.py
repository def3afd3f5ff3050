"""MLflow: energy and emissions on its runs, beside what autolog puts there."""

from exporter.integrations.mlflow.sdk import EmissionsTrackerMlflow
from exporter.integrations.mlflow.tracking import inference_cost, log_record, track

__all__ = ("EmissionsTrackerMlflow", "inference_cost", "log_record", "track")
