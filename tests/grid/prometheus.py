"""What Prometheus answers to a query over a range."""

from tests.grid.server import Answer, Asked, document


class Series:
    """One series with one value at all times, until it is told to fail."""

    url = ""

    def __init__(self, grams_per_kwh: float) -> None:
        self.grams_per_kwh = grams_per_kwh
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer:
        if self.status != 200:
            # Some send back what they were given.
            said = {"error": f"no, {asked.headers.get('authorization')}"}
            status, _, body = document(said, self.status)
            return status, self.headers, body
        start, end = float(asked.query["start"]), float(asked.query["end"])
        step = float(asked.query["step"])
        times = [start + number * step for number in range(int((end - start) / step) + 1)]
        values = [[at, str(self.grams_per_kwh)] for at in times]
        found = [{"metric": {}, "values": values}]
        return document({"status": "success", "data": {"resultType": "matrix", "result": found}})
