"""Colliders that replace those of MJX."""
