"""Largest remainder method: integer parts that sum exactly to their total."""

from collections.abc import Sequence


def apportion(total: int, weights: Sequence[int | float]) -> list[int]:
    """Divide `total` into integer parts in proportion to `weights`.

    The parts sum to `total`, and each differs by less than 1 from its exact value. The units left
    after rounding down go to the largest remainders, to the earlier one if two are equal; a weight
    of 0 gets 0. Method: largest remainder with the Hare quota.

    Raises ValueError for a negative or infinite number, or if all weights are 0.
    """
    if total < 0:
        raise ValueError(f"cannot apportion {total}: it is negative")
    integers = _as_integers(weights)
    weight_sum = sum(integers)
    if weight_sum <= 0 or min(integers) < 0:
        raise ValueError("cannot apportion by weights that are all 0, or negative")
    parts: list[int] = []
    remainders: list[int] = []
    for weight in integers:
        part, remainder = divmod(total * weight, weight_sum)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    if left:
        by_remainder = sorted(range(len(parts)), key=remainders.__getitem__, reverse=True)
        for index in by_remainder[:left]:
            parts[index] += 1
    return parts


def _as_integers(weights: Sequence[int | float]) -> Sequence[int]:
    """Return integers in the same proportions; exact, as a finite float is an integer over 2**n."""
    if all(type(weight) is int for weight in weights):
        return weights  # type: ignore[return-value]  # just checked
    try:
        ratios = [weight.as_integer_ratio() for weight in weights]
    except (OverflowError, ValueError):
        raise ValueError("cannot apportion by weights that are not finite") from None
    largest = max(denominator for _, denominator in ratios)
    return [numerator * (largest // denominator) for numerator, denominator in ratios]
