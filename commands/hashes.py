"""Commands of hashes."""
