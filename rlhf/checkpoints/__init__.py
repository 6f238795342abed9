"""Reading and writing model folders and weight files."""
