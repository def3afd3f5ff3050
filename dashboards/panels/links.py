"""Links between dashboards that keep the time range and the data source."""

from grafanalib import core

TAG = "emissions"
KEPT = "${datasource:queryparam}&${__url_time_range}"


class Way:
    """The URL of another dashboard for one value of its variable."""

    def __init__(self, uid: str, variable: str) -> None:
        self._start = f"/d/{uid}?{KEPT}&var-{variable}="

    def of_field(self, heading: str) -> str:
        """Return the URL for the row of a table, by one of its columns."""
        return f'{self._start}${{__data.fields["{heading}"]}}'

    def of_label(self, label: str) -> str:
        """Return the URL for a line or a bar, by one of its labels."""
        return f"{self._start}${{__field.labels.{label}}}"


NODE = Way("emissions-nodes", "instance")
RUN = Way("emissions-run", "run")
LEADERBOARD = Way("emissions-leaderboard", "user")


def others() -> core.DashboardLink:
    """Build the menu of all dashboards."""
    return core.DashboardLink(
        title="Emissions dashboards", tags=[TAG], asDropdown=True, includeVars=False, keepTime=True
    )
