"""Ways from one board to the next, with the time shown and the data source."""

from grafanalib import core

TAG = "emissions"
KEPT = "${datasource:queryparam}&${__url_time_range}"


class Way:
    """The address of another board for one value of its variable."""

    def __init__(self, uid: str, variable: str) -> None:
        self._start = f"/d/{uid}?{KEPT}&var-{variable}="

    def of_field(self, heading: str) -> str:
        """From the row of a table, by one of its columns."""
        return f'{self._start}${{__data.fields["{heading}"]}}'

    def of_label(self, label: str) -> str:
        """From a line or a bar, by one of its labels."""
        return f"{self._start}${{__field.labels.{label}}}"


NODE = Way("emissions-nodes", "instance")
RUN = Way("emissions-run", "run")
LEADERBOARD = Way("emissions-leaderboard", "user")


def others() -> core.DashboardLink:
    """A list of all the boards."""
    return core.DashboardLink(
        title="More of emissions", tags=[TAG], asDropdown=True, includeVars=False, keepTime=True
    )
