"""The command line, evaluation, rendering, benchmarks and reports. Imports everything of ours; nothing imports it.

This file imports nothing, so that `jsafe --help` does not wait for JAX.
"""
