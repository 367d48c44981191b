"""The format of Redis's snapshots (RDB): values as bytes, in `dump.rdb` and in the payloads of DUMP and RESTORE.

A value is read as the commands that make it, and written from such commands. So nothing here knows the classes of
values, the keyspace or the log.
"""
