"""Scripts: EVAL, EVALSHA and SCRIPT."""
