"""Commands of `jsafe rlhf`."""
