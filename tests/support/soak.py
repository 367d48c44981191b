"""How long a run may take: GODIS_SOAK=n asks for n times as much of what chance decides."""

from __future__ import annotations

import os

THOROUGHNESS = int(os.environ.get("GODIS_SOAK", "1"))
