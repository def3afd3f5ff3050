"""Energy and carbon emissions of the work on a machine, as Prometheus metrics."""

__version__ = "0.1.0"
