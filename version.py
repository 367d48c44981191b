"""The version of Godis, and of the Redis whose behaviour it offers."""

VERSION = "1.1.0"
REDIS_VERSION = "7.0.15"
