"""Tests; the folders mirror the tree, `parity` holds the oracles."""
