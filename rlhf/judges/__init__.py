"""Reward and cost models."""
