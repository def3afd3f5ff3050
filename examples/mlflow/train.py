"""Log the emissions of training and inference of a scikit-learn model to MLflow.

pip install '/path/to/clone[mlflow]' mlflow scikit-learn
MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python train.py
"""

import mlflow
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from exporter.integrations.mlflow import inference_cost, track

x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
model = RandomForestClassifier(n_estimators=200, random_state=0)

mlflow.sklearn.autolog(log_models=False)
with mlflow.start_run(run_name="digits"):
    with track("digits") as run:
        model.fit(x_train, y_train)
        accuracy = model.score(x_test, y_test)
        run.log(accuracy=accuracy)
    cost = inference_cost(
        lambda: model.predict(x_test), inferences_per_call=len(x_test), round_seconds=1
    )
    mlflow.log_metric("grams_per_inference", cost.grams)
    mlflow.log_metric("grams_per_inference_error", cost.grams_error)
    mlflow.log_metric("accuracy_fraction_per_gram", accuracy / run.emissions_grams)

print(f"{run.run_id}: {run.energy_joules:.1f} J, {run.emissions_grams:.6f} g CO2eq")
print(f"one inference: {cost.grams:.3g} g, standard error {cost.grams_error:.1g} g")
