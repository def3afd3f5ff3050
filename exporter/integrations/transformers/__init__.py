"""Hugging Face Transformers: energy and emissions in the Trainer's logs and model card.

Importing this package registers the callback for `report_to="emissions"`.
"""

from exporter.integrations import import_optional
from exporter.integrations.transformers.callback import EmissionsCallback

__all__ = ("EmissionsCallback",)

import_optional(
    "transformers.integrations.integration_utils", "transformers"
).INTEGRATION_TO_CALLBACK["emissions"] = EmissionsCallback
