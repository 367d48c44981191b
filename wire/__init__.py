"""The rooms behind `protocol.py`: requests by column, telnet's commands, and files that a user names."""
