"""What the machine says of itself."""

from __future__ import annotations

import platform


def processor() -> str:
    """The model of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(models, platform.processor())
    except OSError:  # only Linux has this file
        return platform.processor()
