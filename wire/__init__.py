"""The parts of the wire format beside `protocol.py`: requests by column, doubles, telnet in lines, files of users."""
