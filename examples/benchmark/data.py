"""The 1,797 handwritten digits of scikit-learn, augmented by shifted copies."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


class Digits(NamedTuple):
    """Images of 64 pixels, 0 to 1, and their digits."""

    images: Any
    digits: Any
    test_images: Any
    test_digits: Any


def digits(most: int | None = None) -> Digits:
    """Split off a quarter for the test; no image, shifted or not, is in both parts."""
    images, names = load_digits(return_X_y=True)
    images, test_images, names, test_names = train_test_split(
        images[:most] / 16.0, names[:most], test_size=0.25, random_state=0
    )
    return Digits(_moved(images), np.tile(names, len(MOVES)), test_images, test_names)


def _moved(images: Any) -> Any:
    """All images, followed by copies shifted by one pixel in each direction."""
    square = images.reshape(-1, 8, 8)
    moved = [np.roll(square, move, axis=(1, 2)) for move in MOVES]
    return np.concatenate(moved).reshape(-1, 64)
