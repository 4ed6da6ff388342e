r"""Start processes, exchange frames with a worker under a deadline, and end a process together with all its children.

Every process that pcbench starts and does not wait for at once is started and ended here.  Every way for one to end
is put into words here: exit code, signal, closed pipe, bytes that are no frame.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pcbench
from pcbench.errors import UsageError, WorkerCrashError, WorkerTimeoutError
from pcbench.worker import frames
from pcbench.worker.limits import Limits

_TAIL_BYTES = 1 << 16
_SLICE = 0.25  # seconds between looks at whether a silent worker is still alive

# Runs before anything of pcbench is importable, in any Python, so that an old one can say that it is old.  The
# package is registered from its own directory: the site-packages around it belong to the harness, not to the worker.
BOOTSTRAP = r"""
import sys
def refuse(text):
    import json, os, struct
    text = json.dumps({"t": "dict", "v": {"error": {"t": "dict", "v": {
        "class": "UsageError", "message": text, "traceback": ""}}}}).encode("ascii")
    os.write(answer_fd, struct.pack("<4sIQ", b"PCB1", len(text), 0) + text)
    os._exit(0)
answer_fd, directory, spec, limits = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
sys.argv = [spec]
path, sys.path[:] = sys.path[:], [entry for entry in sys.path if entry]
version = ".".join(str(n) for n in sys.version_info[:3])
if sys.version_info[:2] < (3, 10):
    refuse("interpreter %s is Python %s: needed 3.10 or later" % (sys.executable, version))
try:
    import numpy
except ImportError as error:
    refuse("interpreter %s (Python %s) cannot import NumPy (%s): install numpy there with `%s -m pip install numpy`"
           % (sys.executable, version, error, sys.executable))
import importlib.util
found = importlib.util.spec_from_file_location(
    "pcbench", directory + "/__init__.py", submodule_search_locations=[directory])
package = importlib.util.module_from_spec(found)
sys.modules["pcbench"] = package
found.loader.exec_module(package)
from pcbench.worker.serve import main
sys.path[:] = path
main(answer_fd, spec, limits)
"""


def resolve_interpreter(python: str | None) -> str:
    """The path of an interpreter, the harness's own for None; symbolic links are kept, they make a virtual environment.

    **Raises:** `UsageError` if there is no such file or it cannot be executed.
    """
    if python is None:
        return sys.executable
    path = os.path.abspath(os.path.expanduser(python)) if os.sep in python else shutil.which(python)
    if path is None or not os.path.exists(path):
        raise UsageError(f"interpreter {python!r} does not exist: give the path of a Python, e.g. .venv/bin/python")
    if os.path.isdir(path):
        raise UsageError(f"interpreter {python!r} is a directory: give the Python inside it, e.g. {python}/bin/python")
    if not os.access(path, os.X_OK):
        raise UsageError(f"interpreter {python!r} is not executable: give the path of a Python")
    return path


def environment(own: bool, threads: int | None, extra: Mapping[str, str] | None) -> dict[str, str]:
    """The worker's environment: the harness's, with `threads` threads, and without PYTHONPATH unless it is its `own`.

    XLA takes the size of its CPU thread pool from NPROC; `--xla_cpu_multi_thread_eigen=false`, often recommended, has
    no effect in JAX 0.10.2 (measured: CPU time is twice wall time on two cores with it, equal with NPROC=1).
    """
    values = dict(os.environ)
    if not own:
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
            values.pop(name, None)
    if threads is not None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")
        values.update(dict.fromkeys(names, str(threads)))
    values.update(extra or {})
    return values


class Tail:
    """The last 64 KiB that arrive in a pipe, read by a thread so that the writer never waits."""

    def __init__(self, descriptor: int) -> None:
        self._chunks: collections.deque[bytes] = collections.deque()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, args=(descriptor,), name="pcbench-stderr", daemon=True)
        self._thread.start()

    def _drain(self, descriptor: int) -> None:
        size = 0
        while chunk := os.read(descriptor, _TAIL_BYTES):
            with self._lock:
                self._chunks.append(chunk)
                size += len(chunk)
                while size - len(self._chunks[0]) >= _TAIL_BYTES:
                    size -= len(self._chunks.popleft())
        os.close(descriptor)

    def join(self, timeout: float) -> None:
        """Wait until the writer has closed the pipe, if it does so in time."""
        self._thread.join(timeout)

    @property
    def text(self) -> str:
        """What is kept, decoded."""
        with self._lock:
            return b"".join(self._chunks)[-_TAIL_BYTES:].decode(errors="replace")


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """A process that leads a session of its own; `options` as for `subprocess.Popen`.

    Ctrl-C then reaches this process alone, which ends the others in order, and `end` reaches all that it has started.

    **Raises:** `OSError` if it does not start.
    """
    return subprocess.Popen(command, start_new_session=True, **options)


def end(popen: subprocess.Popen[Any], grace: float = 0.0) -> None:
    """End a process from `start` and every process of its group, and wait for it; never raises.

    It is asked first if it may take `grace` seconds to end what it has started itself.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if grace and popen.poll() is None:
            popen.terminate()
            popen.wait(timeout=grace)
    with contextlib.suppress(OSError):
        os.killpg(popen.pid, signal.SIGKILL)  # it leads its own session, so its number names the group
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        popen.wait(timeout=10)


def _end_worker(popen: subprocess.Popen[bytes], descriptors: tuple[int, ...]) -> None:
    """End a worker and close the pipes to it; never raises."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    end(popen)


class Process:
    """One running worker.  `exchange` sends frames and returns the value of the frame that comes back.

    **Raises:** (`exchange`) `WorkerTimeoutError` or `WorkerCrashError`, after which the process is gone.
    """

    def __init__(self, python: str, spec: str, env: Mapping[str, str], limits: Limits) -> None:
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        noise_read, noise_write = os.pipe()
        package = str(Path(pcbench.__file__).parent)
        command = [python, "-c", BOOTSTRAP, str(answer_write), package, spec, json.dumps(vars(limits))]
        try:
            popen = start(
                command,
                stdin=request_read,
                stdout=noise_write,
                stderr=noise_write,
                pass_fds=(answer_write,),
                env=dict(env),
            )
        except OSError as error:
            for descriptor in (request_write, answer_read, noise_read):
                os.close(descriptor)
            raise UsageError(f"interpreter {python!r} does not start: {error}") from error
        finally:
            for descriptor in (request_read, answer_write, noise_write):
                os.close(descriptor)
        os.set_blocking(request_write, False)
        self._popen, self._limits = popen, limits
        self.tail = Tail(noise_read)
        self._channel = frames.Channel(answer_read, request_write, self._wait)
        self._poll = {answer_read: select.poll(), request_write: select.poll()}
        self._poll[answer_read].register(answer_read, select.POLLIN)
        self._poll[request_write].register(request_write, select.POLLOUT)
        self._deadline = 0.0
        self.end = weakref.finalize(self, _end_worker, popen, (request_write, answer_read))

    def exchange(self, messages: tuple[list[Any], ...], timeout: float, what: str) -> Any:
        """Send encoded frames and receive one; `what` names the call in the errors."""
        self._deadline = time.monotonic() + timeout
        try:
            if messages:
                self._channel.send(*messages)
            answer = self._channel.receive()
            if self._channel.surplus:
                raise frames.FrameError(f"bytes after a frame: {self._channel.surplus}")
            return answer
        except TimeoutError:
            raise self._timeout_error(timeout, what) from None
        except (frames.FrameError, OSError) as error:
            raise self._crash_error(error, what) from None
        except BaseException:  # Ctrl-C in mid-frame: the stream is of no use any more
            self.end()
            raise

    def _wait(self, descriptor: int, event: int) -> None:
        poll = self._poll[descriptor]
        while True:
            remaining = self._deadline - time.monotonic()
            if poll.poll(max(0.0, min(remaining, _SLICE)) * 1000):
                return
            if remaining <= 0:
                raise TimeoutError
            # a grandchild may hold the pipe open for ever after the worker itself has died
            if self._popen.poll() is not None and not poll.poll(0):
                raise frames.EndOfFrames("the worker is gone")

    def _timeout_error(self, timeout: float, what: str) -> WorkerTimeoutError:
        seen = len(self.tail.text)
        with contextlib.suppress(OSError):
            os.kill(self._popen.pid, signal.SIGUSR1)  # faulthandler in the worker prints where it hangs
        self._popen_wait(0.3)
        self.end()
        self.tail.join(1.0)
        where = self.tail.text[seen:].strip()
        text = f"no answer to {what} within {timeout:g} s: the worker was killed; allow more time or a smaller problem"
        return WorkerTimeoutError(f"{text}\nit was here:\n{where}" if where else text)

    def _popen_wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=seconds)

    def _crash_error(self, error: Exception, what: str) -> WorkerCrashError | WorkerTimeoutError:
        if not isinstance(error, frames.FrameError) or isinstance(error, frames.EndOfFrames):
            self._popen_wait(2.0)  # the pipe closes a moment before the process ends
        else:
            self._popen_wait(0.1)
        code = self._popen.poll()
        self.end()
        self.tail.join(1.0)
        stderr = self.tail.text
        if code == -signal.SIGXCPU:
            text = f"{what} used more than {self._limits.cpu_seconds:g} s of CPU time: the worker was killed"
            where = stderr.rpartition("(most recent call first):\n")[2].strip()  # what faulthandler printed
            return WorkerTimeoutError(f"{text}; allow more time or a smaller problem\nit was here:\n{where}")
        garbage = isinstance(error, frames.FrameError) and not isinstance(error, frames.EndOfFrames)
        parts = [f"the worker sent {error}"] if garbage else []
        if code is None and not garbage:
            parts.append(f"the worker closed its pipe but did not end ({error})")
        elif code is not None:
            parts.append(f"the worker {ending(code, stderr)}")
        limited = "" if code is None else memory_limit(self._limits)
        return WorkerCrashError(f"{' and '.join(parts)} during {what}{limited}{last_words(stderr)}", stderr)


def ending(code: int, stderr: str = "") -> str:
    """How a process ended, in words, from its return code; a likely lack of memory is pointed out."""
    if code >= 0:
        text = f"ended with exit status {code}"
        return text + " (out of memory: see MemoryError there)" if "MemoryError" in stderr else text
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory? the kernel kills so when memory runs out)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def memory_limit(limits: Limits) -> str:
    """A clause that says how much memory the worker could have, if that was limited."""
    return "" if limits.memory_mib is None else f" (its memory was limited to {limits.memory_mib} MiB)"


def last_words(stderr: str) -> str:
    """The lines of standard error that tell most: the head of a dump by faulthandler, else the last three."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    dumps = [k for k, line in enumerate(lines) if line.startswith("Fatal Python error")]
    chosen = lines[dumps[-1] : dumps[-1] + 4] if dumps else lines[-3:]
    return "; on its standard error: " + " | ".join(line[:200] for line in chosen) if chosen else ""
