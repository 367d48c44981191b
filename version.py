"""The version of Godis, and of the Redis whose behaviour it offers."""

VERSION = "1.1.0"
REDIS_VERSION = "7.0.15"
HELLO_VERSION = "7.4.0"  # what HELLO says: redis-py keeps no keys of a server that says less
