"""Commands of `jsafe`."""
