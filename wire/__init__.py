"""The parts of the wire format beside `protocol.py`: requests by column, telnet's commands, files named by users."""
