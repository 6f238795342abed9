"""Rows of data sets, schema by schema."""
