"""Speed measurements and published results."""
