"""Training of sentence encoders."""
