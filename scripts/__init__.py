"""What scripts in Lua run in: their libraries."""
