"""The host loop around a trainer."""
