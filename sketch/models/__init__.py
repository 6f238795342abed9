"""Models of drawings and their checkpoints."""
