"""Estimators that say what their training used."""

import math
import pickle

import pytest
from sklearn.base import clone, is_classifier
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from exporter.integrations.sklearn import Emissions

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def test_it_predicts_as_the_other_and_says_what_that_took(daemon, digits):
    forest = RandomForestClassifier(300, random_state=0)
    model = Emissions(forest, "forest").fit(*digits)
    assert (model.predict(digits[0]) == clone(forest).fit(*digits).predict(digits[0])).all()
    assert list(model.classes_) == list(range(10))
    assert is_classifier(model)
    assert model.energy_kwh_ > 0
    assert model.emissions_grams_ == model.record_["carbon_grams"] > 0
    assert daemon.json(f"/api/v1/runs/{model.record_['run_id']}")["name"] == "forest"


def test_it_can_be_cloned_and_kept(daemon, digits):
    model = Emissions(RandomForestClassifier(5, random_state=0)).fit(*digits)
    again = pickle.loads(pickle.dumps(model))
    assert again.score(*digits) == model.score(*digits)
    assert again.emissions_grams_ == model.emissions_grams_
    assert not hasattr(clone(model), "estimator_")


def test_steps_that_fit_and_transform_at_once_are_runs_as_well(daemon, digits):
    scaler = StandardScaler()
    pipeline = make_pipeline(Emissions(scaler, "scale"), Emissions(DecisionTreeClassifier()))
    pipeline.fit(*digits)
    assert pipeline.score(*digits) > 0.9
    assert [step.record_["ended"] is not None for _, step in pipeline.steps] == [True, True]
    assert not hasattr(scaler, "mean_")
    clusters = Emissions(KMeans(3, n_init=1))
    assert (clusters.fit_predict(digits[0]) == clusters.labels_).all()
    assert clusters.energy_kwh_ >= 0
    assert not hasattr(clusters, "fit_nothing")
    assert not hasattr(Emissions(DecisionTreeClassifier()), "fit_transform")


def test_the_fits_of_a_search_are_one_group(daemon, digits):
    pipeline = make_pipeline(StandardScaler(), Emissions(DecisionTreeClassifier(), group="search"))
    search = GridSearchCV(pipeline, {"emissions__estimator__max_depth": [5, 9]}, cv=2)
    search.fit(*digits)
    assert search.best_score_ > 0.5
    assert len(daemon.json("/api/v1/runs?group=search")["runs"]) == 5


def test_where_nobody_measures_it_fits_all_the_same(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "nobody.sock"))
    model = Emissions(RandomForestClassifier(5)).fit(*digits)
    assert model.score(*digits) > 0.9
    assert math.isnan(model.energy_kwh_)


def test_the_example_says_what_the_best_took(daemon, example):
    assert " g CO2eq" in example("sklearn/search.py")
    assert len(daemon.json("/api/v1/runs?group=trees")["runs"]) == 10
