"""WAIT and WAITAOF."""
