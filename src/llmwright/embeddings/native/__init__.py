"""The compiled BERT: weights packed for it, and texts handed to it a few at a time."""
