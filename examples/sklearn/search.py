"""Measure each fit of a parameter search.

pip install '/path/to/clone[sklearn]'
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

from exporter.integrations.sklearn import Emissions

search = GridSearchCV(
    Emissions(DecisionTreeClassifier(random_state=0), name="tree", group="trees"),
    {"estimator__max_depth": [4, 8, 16]},
    cv=3,
)
search.fit(*load_digits(return_X_y=True))

best = search.best_estimator_
print(f"{search.best_params_}: {search.best_score_:.3f}, {best.emissions_grams_:.6f} g CO2eq")
print("all fits: emissions-exporter report --group trees")
