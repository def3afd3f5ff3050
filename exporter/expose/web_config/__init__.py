"""The web config file: TLS, who may connect, passwords, headers and rates, for TCP alone."""
