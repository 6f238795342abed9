"""Drawings: Sketch-RNN, a network that suggests the next stroke, and critics, as pure functions."""
