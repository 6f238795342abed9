"""Pictures of drawings."""
