r"""The worker process: serve one implementation, inside the interpreter that has the library under test.

Requests arrive as frames on standard input, answers leave by a pipe of their own, so that whatever the
implementation prints, in Python or in C, goes to standard error and cannot corrupt a frame.  Standard library, NumPy
and pcbench's lower layers only, Python 3.10 or later: nothing of the harness's environment can be imported here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import platform
import resource
import select
import signal
import sys
import threading
import traceback
from typing import Any

from pcbench import errors
from pcbench.problem.network import Network
from pcbench.protocol.implementation import methods_of
from pcbench.protocol.loading import load
from pcbench.worker import frames
from pcbench.worker.invoke import Snapshot, call_method
from pcbench.worker.limits import Limits, confine_memory, cpu_time
from pcbench.worker.provenance import origin

_LIBRARIES = ("numpy", "scipy", "jax", "jaxlib", "torch", "equinox", "optax", "diffrax", "jpc", "pcx", "ngclearn")


def main(answer_fd: int, spec: str, limits_json: str) -> None:
    """Load the implementation, say who it is, and answer requests until standard input closes."""
    limits = Limits(**json.loads(limits_json))
    channel = frames.Channel(_claim_streams(answer_fd), answer_fd)
    _prepare_process(limits)
    try:
        implementation = load(spec)
        manifest, methods = implementation.manifest, methods_of(implementation)
        hello = frames.encode({"ok": {"manifest": manifest, "methods": methods, "info": info(manifest.library)}})
    except BaseException as error:
        channel.send(frames.encode(_error_data(error)))
        return
    channel.send(hello)
    with contextlib.suppress(frames.EndOfFrames, BrokenPipeError):
        _serve(channel, implementation, limits)


def info(library: str = "") -> dict[str, Any]:
    """The interpreter, the platform, the versions of the libraries loaded so far, and where `library` comes from."""
    versions = {name: str(getattr(sys.modules[name], "__version__", "")) for name in _LIBRARIES if name in sys.modules}
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "pid": os.getpid(),
        "versions": versions,
        **origin(library),
    }


def hardware() -> dict[str, Any]:
    """The device and the precision of products, as JAX or PyTorch say, if one is loaded; starts them if need be."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # a library that finds no device says so where it is used
        if "jax" in sys.modules:
            devices = sys.modules["jax"].devices()
            found["device"] = f"{devices[0].platform} {devices[0].device_kind}".strip()
            found["backend"] = devices[0].client.platform_version
            found["matmul_precision"] = str(sys.modules["jax"].config.jax_default_matmul_precision)
        elif "torch" in sys.modules:
            torch = sys.modules["torch"]
            found["device"] = f"gpu {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"
            found["matmul_precision"] = str(torch.get_float32_matmul_precision())
    return found


def _serve(channel: frames.Channel, implementation: Any, limits: Limits) -> None:
    networks: dict[int, Network] = {}
    snapshots: dict[int, Snapshot] = {}
    while True:
        request = channel.receive(networks)
        if "put" in request:
            network = networks[request["put"]] = request["network"]
            snapshots[id(network)] = Snapshot({"network": network})
            continue
        if "drop" in request:
            snapshots.pop(id(networks.pop(request["drop"], None)), None)
            continue
        meta: dict[str, Any] = {}
        try:
            if "info" in request:
                answer = {**info(implementation.manifest.library), **hardware()}
            else:
                with cpu_time(limits.cpu_seconds):
                    answer = call_method(
                        implementation, request["call"], request["args"], request["kwargs"], meta, snapshots
                    )
                # the harness's clocks and memory figures mean nothing for this process
                meta["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            reply = frames.encode({"ok": answer, "meta": meta})
        except BaseException as error:
            reply = frames.encode({**_error_data(error), "meta": meta})
        channel.send(reply)


def _error_data(error: BaseException) -> dict[str, Any]:
    """An error as data: by the name of its class if it is pcbench's own, else as an `AdapterError`."""
    name = type(error).__name__
    known = isinstance(error, errors.PcbenchError) and hasattr(errors, name)
    detail = getattr(error, "traceback", "") or getattr(error, "stderr", "")
    trace = detail or "".join(traceback.format_exception(type(error), error, error.__traceback__))
    message = str(error) if known else f"{name}: {error}"
    return {"error": {"class": name if known else "AdapterError", "message": message, "traceback": trace}}


def _claim_streams(answer_fd: int) -> int:
    """Keep standard input for requests, under another number; standard output is the same pipe as standard error."""
    os.set_inheritable(answer_fd, False)
    request_fd = os.dup(0)  # not inheritable
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)  # what was printed before a crash is wanted
    watcher = threading.Thread(target=_exit_with_harness, args=(request_fd,), daemon=True)
    watcher.start()
    return request_fd


def _exit_with_harness(request_fd: int) -> None:
    """End the process as soon as the other end of its standard input closes, even in the middle of a call."""
    poll = select.poll()
    poll.register(request_fd, 0)  # no event of our own: only a hang-up wakes this thread
    poll.poll()
    os._exit(0)


def _prepare_process(limits: Limits) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable()
    # the harness asks a hanging worker where it hangs before it kills it
    faulthandler.register(signal.SIGUSR1, all_threads=False, chain=False)
    faulthandler.register(signal.SIGXCPU, all_threads=False, chain=True)  # print where, then end as it would have
    if limits.memory_mib is not None:
        confine_memory(limits.memory_mib)


if __name__ == "__main__":  # pragma: no cover
    raise SystemExit("pcbench.worker.serve is started by pcbench.worker.client: use `pcbench check IMPL --python PATH`")
