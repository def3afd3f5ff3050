"""The revision of the source code that this program was built from, or that it runs from."""

import os

REVISION_VARIABLE = "EMISSIONS_EXPORTER_REVISION"
"""Set in the container image; honored when a package is built."""
UNKNOWN = "unknown"
"""What the build of an image passes on where it was given nothing."""
PACKAGE = os.path.dirname(os.path.abspath(__file__))
REVISION_FILE = os.path.join("data", "revision")
"""File in the package, written when it is built: hatch_build.py."""
GIT_SECONDS = 5


def revision() -> str:
    """Commit, with `-dirty` where files were changed since; empty where it is not known."""
    return build_revision() or git_revision(os.path.dirname(PACKAGE))


def build_revision() -> str:
    """The revision that was known at build time; empty where none was."""
    if given := os.environ.get(REVISION_VARIABLE, "").strip():
        return "" if given == UNKNOWN else given
    try:
        with open(os.path.join(PACKAGE, REVISION_FILE), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def git_revision(directory: str) -> str:
    """The revision of the clone whose top is `directory`; empty where it is no clone."""
    if not os.path.exists(os.path.join(directory, ".git")):
        return ""  # git would answer for a repository around it
    import subprocess  # of no use to whoever runs an installed package

    describe = ("describe", "--always", "--dirty", "--exclude=*", "--abbrev=40")
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments
            ("git", "--no-optional-locks", "-C", directory, *describe),  # noqa: S607  the user's git
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
