import pytest

from tests.intel_cards import IntelTree


@pytest.fixture
def tree(tmp_path):
    return IntelTree(tmp_path)
