"""MuJoCo XLA as a physics backend."""
