"""What the server did: MONITOR, SLOWLOG, LATENCY."""
