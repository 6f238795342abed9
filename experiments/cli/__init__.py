"""The command line: parsing, results, errors."""
