"""Tokenizers: reading them and training byte-pair encodings."""
