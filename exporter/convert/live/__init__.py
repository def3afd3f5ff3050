"""Live intensity sources: polled over HTTP in a short-lived process, values kept in memory."""
