"""Commands of geographic positions."""
