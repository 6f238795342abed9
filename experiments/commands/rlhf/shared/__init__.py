"""Flags and run handling that the commands of `jsafe rlhf` share."""
