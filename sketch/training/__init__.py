"""Training of drawing models."""
