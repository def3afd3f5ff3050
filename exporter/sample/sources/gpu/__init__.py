"""GPUs of any vendor. Each GPU has its own threads, so that one may hang alone."""
