"""One ranking from several, and a ranking made better."""
