"""Flags and steps that several commands of `jsafe sketch` share."""
