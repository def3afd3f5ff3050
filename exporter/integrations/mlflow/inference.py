"""What an inference costs where MLflow's autolog is on: it makes a call many times dearer."""

from collections.abc import Callable
from typing import Any

from exporter.integrations import inference, optional
from exporter.integrations.inference import InferenceCost
from exporter.integrations.mlflow.delivery import EXTRA


def inference_cost(call: Callable[[], object], **options: Any) -> InferenceCost:
    """As that of `exporter.integrations.inference`, meanwhile without autolog.

    Raises MissingLibrary.
    """
    autologging = optional("mlflow.utils.autologging_utils", EXTRA)
    with autologging.disable_autologging():
        return inference.inference_cost(call, **options)
