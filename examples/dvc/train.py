"""A DVC stage. Run `dvc repro`, `dvc metrics show`, and `dvc metrics diff` after a change."""

print(sum(number**0.5 for number in range(3_000_000)))
