"""The corpus: inputs that once failed, and some to start from, as files that are what they stand for."""

from __future__ import annotations

import hashlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "corpus"


def files(target: str) -> list[Path]:
    """List a target's files."""
    return sorted((CORPUS / target).iterdir())


def keep(target: str, content: bytes) -> Path:
    """Write an input that failed into the corpus, so that it is tried at each run from now on."""
    path = CORPUS / target / f"found-{hashlib.sha256(content).hexdigest()[:12]}"
    path.write_bytes(content)
    return path
