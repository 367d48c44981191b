"""Commands of DUMP and RESTORE."""
