"""MLflow: energy and emissions of runs, in addition to MLflow's autologging."""

from exporter.integrations.mlflow.sdk import EmissionsTrackerMlflow
from exporter.integrations.mlflow.tracking import inference_cost, log_record, track

__all__ = ("EmissionsTrackerMlflow", "inference_cost", "log_record", "track")
