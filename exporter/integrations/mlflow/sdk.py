"""`EmissionsTrackerMlflow`, compatible with mlflow-emissions-sdk in methods and metrics.

Metrics keep their names and units, and are also logged with names that contain the unit:
`emissions` and `emissions_per_10_predictions` are grams, `accuracy_per_emission` is a fraction per
gram.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any

from exporter.client.log import warn
from exporter.integrations import import_optional
from exporter.integrations.inference import InferenceCost
from exporter.integrations.mlflow.delivery import EXTRA, MetricsQueue, is_unreachable
from exporter.integrations.mlflow.tracking import inference_cost, track
from exporter.redaction import without_passwords
from exporter.units import GRAMS_PER_KG

REQUIRED_PARAMETERS = ("tracking_uri", "experiment_name", "run_name", "flavor")
FLAVORS = ("keras", "pytorch", "sklearn")
TEN = 10
PERCENT = 100


class EmissionsTrackerMlflow:
    """Measures the training between `start_training_job` and `end_training_job`."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `track`. Raises TypeError and ValueError for invalid ones."""
        track("", **options)  # checks the options before the training
        self._options = options
        self._tracker: track | None = None
        self.tracking_uri = self.experiment_name = self.run_name = self.flavor = ""
        self.run_id = self.exp_id = ""
        self.emissions = math.nan
        """Emissions of the training in kilograms; nan if unknown."""
        self.model_acc: float | None = None
        """Accuracy as a fraction."""

    def read_params(self, experiment_tracking_params: Mapping[str, str]) -> None:
        """Start an MLflow run: `tracking_uri`, `experiment_name`, `run_name`, `flavor`.

        Raises ValueError for missing or unknown parameters, and MissingLibrary. Errors of the
        server are logged; the training is measured in any case.
        """
        given = dict(experiment_tracking_params)
        if missing := [name for name in REQUIRED_PARAMETERS if not given.get(name)]:
            raise ValueError(f"missing parameters: {', '.join(missing)}")
        if given["flavor"] not in FLAVORS:
            raise ValueError(
                f"flavor: expected one of {', '.join(FLAVORS)}, found {given['flavor']!r}"
            )
        self.tracking_uri, self.experiment_name, self.run_name, self.flavor = (
            given[name] for name in REQUIRED_PARAMETERS
        )
        mlflow = import_optional("mlflow", EXTRA)
        mlflow.set_tracking_uri(self.tracking_uri)
        if is_unreachable(self.tracking_uri):
            uri = without_passwords(self.tracking_uri)
            warn("MLflow at %s does not answer; nothing is logged there", uri)
            return
        flavor = import_optional(f"mlflow.{self.flavor}", EXTRA)
        try:
            self.exp_id = str(mlflow.set_experiment(self.experiment_name).experiment_id)
            self.run_id = str(mlflow.start_run(run_name=self.run_name).info.run_id)
            flavor.autolog()
        except Exception as error:  # noqa: BLE001  MLflow raises various exceptions
            warn("the MLflow run could not be started: %s", without_passwords(str(error)))

    def start_training_job(self) -> None:
        """Start measuring."""
        self._tracker = track(self.run_name, mlflow_run_id=self.run_id, **self._options)
        self._tracker.start()

    def end_training_job(self) -> None:
        """Log the emissions of the training, and end the MLflow run."""
        if self._tracker is None:
            warn("end_training_job: call start_training_job first")
            return
        grams = self._tracker.stop().emissions_grams
        self.emissions = grams / GRAMS_PER_KG
        self._log(emissions=grams)
        if not self.run_id or is_unreachable(self.tracking_uri):
            return
        try:
            import_optional("mlflow", EXTRA).end_run()
        except Exception as error:  # noqa: BLE001  MLflow raises various exceptions
            text = without_passwords(str(error))
            warn("the MLflow run could not be ended: %s", text)

    def evaluate_model_accuracy(self, model: Any, *args: Any) -> float:
        """Return the fraction of the test data that the model predicts correctly.

        `args` are `x_test, y_test`, or one data set for Keras and PyTorch.
        """
        if self.flavor == "pytorch":
            right = sum(self.predict_image(image, model) == label for image, label in args[0])
            accuracy = right / len(args[0])
        elif self.flavor == "keras":
            accuracy = model.evaluate(*args)[1]
        else:
            x_test, y_test = args
            pairs = zip(model.predict(x_test), y_test, strict=True)
            accuracy = sum(bool(predicted == true) for predicted, true in pairs) / len(y_test)
        self.model_acc = float(accuracy)
        self._log(accuracy_on_test_data=self.model_acc)
        return self.model_acc

    def accuracy_per_emission(self, model: Any, *args: Any) -> float:
        """Return the accuracy (fraction) per gram of the training; nan if it emitted nothing."""
        accuracy = self.model_acc
        if accuracy is None:
            accuracy = self.evaluate_model_accuracy(model, *args)
        grams = self.emissions * GRAMS_PER_KG
        if not grams > 0:
            warn("accuracy per gram is undefined: the training emitted %g g", grams)
            return math.nan
        result_per_gram = accuracy / grams
        self._log(
            accuracy_per_emission=result_per_gram,
            accuracy_fraction_per_gram=result_per_gram,
            accuracy_percent_per_gram=result_per_gram * PERCENT,
        )
        return result_per_gram

    def emissions_per_10_inferences(self, model: Any, test_data: Any) -> float:
        """Return the grams of ten inferences: one call with ten rows (sklearn), else ten calls.

        The calls are repeated for some seconds; standard errors are logged too.
        """
        cost = self.inference_cost(model, test_data)
        self._log(
            emissions_per_10_predictions=cost.grams * TEN,
            emissions_per_10_inferences=cost.grams * TEN,
            grams_per_inference=cost.grams,
            grams_per_inference_error=cost.grams_error,
            joules_per_inference=cost.joules,
            joules_per_inference_error=cost.joules_error,
            seconds_per_inference=cost.seconds,
            inferences_measured=cost.inferences,
        )
        return cost.grams * TEN

    emission_per_10_inferences = emissions_per_10_inferences

    def inference_cost(self, model: Any, test_data: Any) -> InferenceCost:
        """Return the cost that `emissions_per_10_inferences` logs, for the first ten rows."""
        call, inferences = self._inference(model, test_data)
        options = {key: self._options[key] for key in ("socket", "private") if key in self._options}
        return inference_cost(
            call, inferences_per_call=inferences, name=f"{self.run_name} inference", **options
        )

    def predict_image(self, img: Any, model: Any) -> Any:
        """Return the class that a PyTorch model predicts for an image."""
        device = next((each.device for each in model.parameters()), "cpu")
        return model(img.unsqueeze(0).to(device)).argmax(dim=1)[0].item()

    def _inference(self, model: Any, test_data: Any) -> tuple[Callable[[], object], int]:
        """Return the call to measure, and its number of inferences."""
        if self.flavor == "sklearn":
            rows = test_data[:TEN]
            return partial(model.predict, rows), len(rows)
        rows = list(islice(test_data, TEN))
        if self.flavor == "pytorch":
            return lambda: [self.predict_image(row[0], model) for row in rows], len(rows)
        return lambda: [model.predict(row, verbose=0) for row in rows], len(rows)

    def _log(self, **values: float) -> None:
        """Log finite metrics to the MLflow run, ended or not."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if not self.run_id or not finite:
            return
        delivery = MetricsQueue(import_optional("mlflow", EXTRA), self.run_id, self.tracking_uri)
        delivery.put(finite)
        delivery.send()
