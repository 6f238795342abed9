"""Losses of preference models, policies and language models."""
