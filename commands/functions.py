"""Functions: libraries of scripts that stay."""
