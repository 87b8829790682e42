"""What is minimised: pure functions of log-probabilities, one objective a file."""
