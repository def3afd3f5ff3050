"""Largest remainder: whole parts of a whole, so that sums are exact."""

from collections.abc import Sequence


def apportion(total: int, weights: Sequence[int | float]) -> list[int]:
    """`total` in whole parts in proportion to `weights`.

    The parts sum to `total` and each is less than 1 away from its exact part. What rounding down
    leaves goes to the largest remainders, the earlier first where two are equal; so a weight of 0
    gets 0. Method: largest remainder with the Hare quota.

    Raises ValueError for a negative or infinite number, or where all weights are 0.
    """
    if total < 0:
        raise ValueError(f"cannot apportion {total}: it is negative")
    whole = _whole(weights)
    of = sum(whole)
    if of <= 0 or min(whole) < 0:
        raise ValueError("cannot apportion by weights that are all 0, or negative")
    parts: list[int] = []
    remainders: list[int] = []
    for weight in whole:
        part, remainder = divmod(total * weight, of)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    if left:
        by_remainder = sorted(range(len(parts)), key=remainders.__getitem__, reverse=True)
        for place in by_remainder[:left]:
            parts[place] += 1
    return parts


def _whole(weights: Sequence[int | float]) -> Sequence[int]:
    """The same proportions in integers. Exact: every finite float is an integer over 2**n."""
    if all(type(weight) is int for weight in weights):
        return weights  # type: ignore[return-value]  # just checked
    try:
        ratios = [weight.as_integer_ratio() for weight in weights]
    except (OverflowError, ValueError):
        raise ValueError("cannot apportion by weights that are not finite") from None
    largest = max(denominator for _, denominator in ratios)
    return [numerator * (largest // denominator) for numerator, denominator in ratios]
