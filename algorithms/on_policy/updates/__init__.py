"""Losses of the policy, one module for each method."""
