"""Sketch-RNN, stroke predictor and critic: reserved for the sketch part; nothing is public yet."""
