"""Commands of HyperLogLog."""
