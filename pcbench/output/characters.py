"""Text from elsewhere, made fit for a terminal, a log and XML."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """`text` without escape sequences and other characters that have no place on a terminal or in XML."""
    return _UNPRINTABLE.sub("�", text)
