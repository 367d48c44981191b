"""Measurements of whole servers, from outside, Godis beside redis-server: `python -m bench` and the modules here.

They use the tests' way to start a server, so that there is one.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
