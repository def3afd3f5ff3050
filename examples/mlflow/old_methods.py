"""The example of mlflow-emissions-sdk; only the import is different.

It requires a tracking server: `mlflow server --port 5000`, or the server in MLFLOW_TRACKING_URI.

pip install '/path/to/clone[mlflow]' mlflow scikit-learn
"""

import os

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from exporter.integrations.mlflow import EmissionsTrackerMlflow

x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
model = SGDClassifier(random_state=0)

runner = EmissionsTrackerMlflow()
runner.read_params(
    {
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"),
        "experiment_name": "digits",
        "run_name": "sgd",
        "flavor": "sklearn",
    }
)
runner.start_training_job()
model.fit(x_train, y_train)
runner.end_training_job()

print(f"accuracy per gram: {runner.accuracy_per_emission(model, x_test, y_test):.4g}")
print(f"grams of 10 inferences: {runner.emissions_per_10_inferences(model, x_test):.3g}")
