"""Commands of `jsafe sketch`."""
