"""Client-side caching: CLIENT TRACKING and its relatives."""
