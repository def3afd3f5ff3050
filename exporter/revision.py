"""Revision of the source code that this program was built or runs from."""

import os

REVISION_VARIABLE = "EMISSIONS_EXPORTER_REVISION"
"""Environment variable set in the container image; honored when a package is built."""
UNKNOWN = "unknown"
"""Value that the image build passes if no revision is given."""
PACKAGE = os.path.dirname(os.path.abspath(__file__))
REVISION_FILE = os.path.join("data", "revision")
"""File in the package, written by hatch_build.py."""
GIT_SECONDS = 5


def revision() -> str:
    """Return the commit, with `-dirty` if files were changed since; empty if not known."""
    return build_revision() or git_revision(os.path.dirname(PACKAGE))


def build_revision() -> str:
    """Return the revision recorded at build time; empty if none was."""
    if given := os.environ.get(REVISION_VARIABLE, "").strip():
        return "" if given == UNKNOWN else given
    try:
        with open(os.path.join(PACKAGE, REVISION_FILE), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def git_revision(directory: str) -> str:
    """Return the revision of the Git clone at `directory`; empty if it is not a clone."""
    if not os.path.exists(os.path.join(directory, ".git")):
        return ""  # git would use a repository in a parent directory
    import subprocess  # not needed by an installed package

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
