"""Classifiers that judge drawings."""
