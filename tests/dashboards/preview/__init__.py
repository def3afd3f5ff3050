"""Pictures of the dashboards, drawn from the answers of a Prometheus, without Grafana.

    prometheus, variables  ->  panel_data, formatting  ->  values, table, timeseries  ->  page

It keeps Grafana's rules where they decide what is read: the grid, units, legends, names, mappings
and thresholds. It is a preview all the same, and every picture says so.
"""
