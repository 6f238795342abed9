"""Sharding over devices, and plans of memory and compute."""
