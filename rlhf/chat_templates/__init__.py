"""Prompt formats of chat models."""
