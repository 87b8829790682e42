"""What is asked of a search in place of the question, and how often."""
