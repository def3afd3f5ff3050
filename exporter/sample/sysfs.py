"""Small text files of the kernel that are read now and then."""

import os


def text(directory: str, name: str) -> str:
    """What a file holds, without white space around it; "" where it cannot be read."""
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
