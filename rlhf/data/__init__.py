"""Texts to learn from: which ones, in what mixture, and as which tokens."""
