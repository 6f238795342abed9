"""Data sets of language models: files, schemas, mixtures, held-out splits, and rows as arrays of tokens."""
