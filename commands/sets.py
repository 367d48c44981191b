"""Commands of sets."""
