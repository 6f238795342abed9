"""Training stages of `jsafe rlhf`."""
