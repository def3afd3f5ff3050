"""What a person sees: the node, and each run, as HTML that needs nothing from elsewhere."""
