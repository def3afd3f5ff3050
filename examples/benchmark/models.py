"""Seven small scikit-learn models, and functions that count their parameters."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

SEED = 0


class Model(NamedTuple):
    """A factory of a model, and a function that counts the parameters of a fitted model."""

    make: Callable[[], Any]
    parameters: Callable[[Any], int]


def _of_tree(tree: Any) -> int:
    """A feature and a threshold in each branch, the share of each class in each leaf."""
    leaves = int(tree.get_n_leaves())
    return 2 * (tree.tree_.node_count - leaves) + leaves * tree.n_classes_


def _of_boosted_trees(model: Any) -> int:
    """A feature and a threshold in each branch, one value in each leaf."""
    trees = [tree for iteration in model._predictors for tree in iteration]  # noqa: SLF001
    leaves = sum(tree.get_n_leaf_nodes() for tree in trees)
    return int(2 * (sum(len(tree.nodes) for tree in trees) - leaves) + leaves)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "logistic-regression": Model(
            lambda: LogisticRegression(max_iter=1_000),
            lambda model: model.coef_.size + model.intercept_.size,
        ),
        "nearest-neighbours": Model(
            KNeighborsClassifier,
            lambda model: model._fit_X.size,  # noqa: SLF001
        ),
        "decision-tree": Model(lambda: DecisionTreeClassifier(random_state=SEED), _of_tree),
        "random-forest": Model(
            lambda: RandomForestClassifier(random_state=SEED),
            lambda model: sum(map(_of_tree, model.estimators_)),
        ),
        "gradient-boosting": Model(
            lambda: HistGradientBoostingClassifier(random_state=SEED), _of_boosted_trees
        ),
        "support-vectors": Model(
            SVC,
            lambda model: (
                model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size
            ),
        ),
        "neural-network": Model(
            lambda: MLPClassifier((128, 64), random_state=SEED),
            lambda model: sum(array.size for array in (*model.coefs_, *model.intercepts_)),
        ),
    }
)
