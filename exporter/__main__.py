"""Run the command `emissions-exporter` as `python -m exporter`."""

from exporter.cli.main import main

raise SystemExit(main())
