"""Measure some tasks in one fresh process, from a request file to one line of JSON.

The request names the implementation and some tasks, each with its arrays in an `.npz` file, so that both commits are
given the same bytes.  A task is warmed up, then timed in a few bodies of `calls` calls each, as many as fill
`least_seconds`; each call ends when its answer is on the host as NumPy arrays, so the device has been waited for.  The
smallest body counts: interruptions by other processes only ever add, and many short bodies dodge them better than a
few long ones.

Standard library, NumPy, and pcbench's protocol alone, Python 3.10 or later: it runs in the interpreter of the library.
Whatever the implementation prints goes to standard error.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pcbench.problem.network import Network
from pcbench.protocol.implementation import Manifest, methods_of
from pcbench.protocol.loading import load
from pcbench.worker.invoke import to_numpy_data
from pcbench.worker.provenance import origin
from pcbench.worker.serve import hardware

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` counts all threads of the process: less disturbed by others on a busy host, blind to waiting and to GPUs."""


def main(path: str) -> dict[str, Any]:
    """Everything that the request in the file `path` asks for."""
    with open(path, encoding="utf-8") as file:
        request = json.load(file)
    clock = CLOCKS[request["clock"]]
    began = clock()
    implementation = load(request["spec"])
    imported = clock() - began
    answer: dict[str, Any] = {
        "import_seconds": imported,
        "manifest": implementation.manifest.to_json(),
        "methods": list(methods_of(implementation)),
        "tasks": {},
    }
    for task in request["tasks"]:
        measured = measure_task(implementation, task)
        answer["tasks"][task["name"]] = {"import_seconds": imported, **measured}
    answer["loaded"], answer["shadowed"] = _origins(request["root"], request["sources"])
    answer["host"] = _host(implementation.manifest)
    return answer


def measure_task(implementation: Any, task: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one task: seconds of a call over the divisor, and what comes with them."""
    body = _body(implementation, task)
    counted = callable(getattr(implementation, "compilations", None))
    before = implementation.compilations() if counted else 0
    clock = CLOCKS[task["clock"]]
    first, answer = _time_calls(body, 1, clock)
    second, _ = _time_calls(body, 1, clock)
    calls = task.get("calls") or max(1, math.ceil(task["least_seconds"] / max(second, 1e-9)))
    gc.collect()
    gc.disable()
    try:
        best = min(_time_calls(body, calls, clock)[0] for _ in range(task["bodies"]))
    finally:
        gc.enable()
    result = {
        "seconds": best / calls / task["divisor"],
        "calls": calls,
        "body_seconds": best,
        "call_seconds": best / calls,
        "first_call_seconds": first,
        "peak_memory": _peak_memory(),
        "device_peak_memory": _device_peak_memory(),
    }
    if counted:
        result["compilations"] = int(implementation.compilations() - before)
    if task["method"] == "equilibrium" and answer.evaluations is not None:
        result["evaluations"] = int(answer.evaluations)
    arrays = _numbers(answer)
    if task.get("keep"):
        np.savez(task["keep"], *arrays)
    return result


def _body(implementation: Any, task: dict[str, Any]) -> Callable[[], Any]:
    """One call of the task's method with its arguments in the implementation's own conventions."""
    manifest = implementation.manifest
    with np.load(task["arrays"]) as arrays:
        weights = tuple(arrays[f"weight{l}"] for l in range(len(task["network"]["scalings"])))
        input, target = arrays["input"], arrays["target"]
        activities = [arrays[f"activity{l}"] for l in range(len(weights) - 1)]
    settings = {**task["network"], "scalings": tuple(task["network"]["scalings"])}
    network = Network(weights=weights, **{**settings, "skips": tuple(settings["skips"])})
    if manifest.capabilities.scalings == "folded":
        network = network.folded()
    if manifest.conventions.activity_order == "output-first":
        activities = activities[::-1]
    step = task["step_size"] * (len(input) if manifest.conventions.step_size == "batch-mean" else 1)
    arguments: dict[str, tuple[Any, ...]] = {
        "infer": (task["steps"], step),
        "weight_gradients": (activities,),
        "equilibrium": (),
        "train": (task["iterations"], task["learning_rate"], task["steps"], step),
    }
    method, rest = getattr(implementation, task["method"]), arguments[task["method"]]
    return lambda: to_numpy_data(method(network, input, target, *rest))


def _peak_memory() -> float:
    """MiB of main memory that this process has held at most; the kernel counts in KiB on Linux, in bytes on macOS."""
    mebibyte = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / mebibyte


def _device_peak_memory() -> float:
    """MiB of the first device's own memory that were in use at most; 0 where there is no such device or counter."""
    for library, peak in (
        ("jax", lambda jax: (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)),
        ("torch", lambda torch: torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0),
    ):
        if library in sys.modules and (found := peak(sys.modules[library])):
            return found / 2**20
    return 0.0


def _time_calls(body: Callable[[], Any], calls: int, clock: Callable[[], float]) -> tuple[float, Any]:
    answer = None
    began = clock()
    for _ in range(calls):
        answer = body()
    return clock() - began, answer


def _numbers(answer: Any) -> list[np.ndarray]:
    """The arrays of an answer, of which none may be missing or not finite.

    Raised before anything is reported: a figure of a wrong answer is none.
    """
    arrays = [np.asarray(a) for a in getattr(answer, "activities", answer)]
    if not arrays or not all(np.all(np.isfinite(a)) for a in arrays):
        raise FloatingPointError("the answer has values that are not finite: its time means nothing")
    return arrays


def _origins(root: str, sources: list[str]) -> tuple[int, list[str]]:
    """How many modules came from below `root`, and which packages lie there but came from elsewhere.

    pcbench itself is the harness's on purpose.
    """
    below = os.path.realpath(root) + os.sep
    inside, outside = 0, set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and os.path.realpath(file).startswith(below):
            inside += 1
        elif file:
            outside.add(name.partition(".")[0])
    candidates = outside - {"pcbench", "__main__"}
    lies = [n for n in candidates if any(os.path.isfile(os.path.join(s, n, "__init__.py")) for s in sources)]
    return inside, sorted(lies)


def _host(manifest: Manifest) -> dict[str, Any]:
    """What the figures depend on beside the two commits; `library_commit` if its checkout is known."""
    names = ("numpy", "jax", "jaxlib", "torch")
    versions = {n: str(getattr(sys.modules[n], "__version__", "")) for n in names if n in sys.modules}
    if manifest.library:
        versions[manifest.library] = manifest.version
    host: dict[str, Any] = {"python": platform.python_version(), "versions": versions, "compile_cache": "cold"}
    came = {"library_commit" if name == "commit" else name: value for name, value in origin(manifest.library).items()}
    return {**host, **came, **hardware()}


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print on standard output must not stand between the harness and the JSON
    with os.fdopen(answers, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(main(sys.argv[1])) + "\n")
