"""Commands of sorted sets."""
