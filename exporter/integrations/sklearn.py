"""scikit-learn: estimator that measures its training, alone, in pipelines and in searches.

model = Emissions(RandomForestClassifier()).fit(x, y)
model.emissions_grams_
"""

from functools import partial
from typing import Any, Self

from exporter.client import track
from exporter.integrations import import_optional

base: Any = import_optional("sklearn.base", "sklearn")
BaseEstimator: Any = base.BaseEstimator
MetaEstimatorMixin: Any = base.MetaEstimatorMixin
FITTING = ("fit_transform", "fit_predict")
"""Methods that fit and return something else; not all estimators have them."""


class Emissions(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Wrapper of an estimator whose `fit`, `fit_transform` and `fit_predict` are runs.

    All other attributes are those of the wrapped estimator. After a fit, it has `estimator_`,
    `energy_kwh_`, `emissions_grams_` (nan if not measured) and `record_`. In a search, each fit is
    a separate run; `group` is their common group.
    """

    def __init__(self, estimator: Any, name: str = "", group: str = "") -> None:
        self.estimator = estimator
        self.name = name
        self.group = group

    def fit(self, X: Any, y: Any = None, **parameters: Any) -> Self:  # noqa: N803  as all have it
        """Fit a clone of the estimator, and measure it."""
        self._measure("fit", X, y, **parameters)
        return self

    def _measure(self, method: str, *given: Any, **parameters: Any) -> Any:
        """Call a method of a clone of the estimator and return its result."""
        self.estimator_ = base.clone(self.estimator)
        name = self.name or type(self.estimator).__name__
        with track(name, group=self.group, progress=False, receipts=None) as run:
            result = getattr(self.estimator_, method)(*given, **parameters)
        self.energy_kwh_, self.emissions_grams_ = run.energy_kwh, run.emissions_grams
        self.record_ = run.record
        return result

    def __getattr__(self, name: str) -> Any:
        """Delegate to the estimator: `predict`, `score`, `classes_`, ..."""
        if name.startswith("__") or "estimator" not in self.__dict__:
            raise AttributeError(name)
        if name in FITTING and hasattr(self.estimator, name):
            return partial(self._measure, name)
        return getattr(self.__dict__.get("estimator_", self.estimator), name)

    def __sklearn_tags__(self) -> Any:
        """Return the tags of the wrapped estimator."""
        from sklearn.utils import get_tags  # type: ignore[import-not-found, unused-ignore]

        return get_tags(self.estimator)
