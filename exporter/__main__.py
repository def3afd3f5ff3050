"""`python -m exporter` is the command `emissions-exporter`."""

from exporter.cli.main import main

raise SystemExit(main())
