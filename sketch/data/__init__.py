"""Drawings: formats, file readers, generators and augmentation."""
