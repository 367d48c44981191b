"""Tests that need a real container engine: `make test-containers`."""
