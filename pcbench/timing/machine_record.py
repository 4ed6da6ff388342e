"""Record of the machine that a benchmark ran on: device, driver, clocks, precision, flags and versions.

asv knows processor, memory and operating system.  A number from a GPU means nothing without the rest, so whoever runs
asv writes `record()` beside its results and takes `name` of it as asv's name of the machine: results from different
settings then never meet in one graph.  Clocks and load change by the minute and are no part of the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcbench.timing.machine import host, load_average

FLAGS = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_DEFAULT_MATMUL_PRECISION", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES",
    "TF_CPP_MIN_LOG_LEVEL", "OMP_NUM_THREADS",
)  # fmt: skip
_GPU = ("name", "driver_version", "clocks.max.sm", "power.limit", "compute_mode", "memory.total")
_NOW = ("clocks.sm", "temperature.gpu", "utilization.gpu", "clocks_throttle_reasons.active")


def record(threads: int, process: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about this machine and its settings that a time may depend on: `lasting`, and `now`.

    `threads` of the numerical libraries, and what is known of the measured `process`.
    """
    lasting = {
        **host(threads),
        "node": platform.node(),
        "process": dict(process),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "gpus": _nvidia(_GPU),
    }
    return {"lasting": lasting, "now": {"load": load_average(), "gpus": _nvidia(_NOW)}}


def name(made: Mapping[str, Any]) -> str:
    """The node and a hash of what lasts, as one word."""
    text = json.dumps(made["lasting"], sort_keys=True)
    return f"{made['lasting']['node']}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def write(made: Mapping[str, Any], path: Path) -> None:
    """The record as JSON; keep it outside asv's directory of results, where asv takes any JSON for its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _nvidia(fields: tuple[str, ...]) -> list[dict[str, str]]:
    """What the driver says of each GPU; nothing where there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(fields, done.stdout) if done.returncode == 0 else []


def parse_gpus(fields: tuple[str, ...], text: str) -> list[dict[str, str]]:
    """The lines of `nvidia-smi`, one a GPU, by field."""
    lines = [line.split(", ") for line in text.strip().splitlines()]
    return [dict(zip(fields, map(str.strip, line), strict=True)) for line in lines]
