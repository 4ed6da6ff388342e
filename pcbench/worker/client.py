r"""Call an implementation that lives in a process of its own, or in this one, through one interface.

`WorkerClient` and `InProcess` are implementations themselves: they have `manifest`, the required methods, and exactly
the optional methods that the implementation behind them offers.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from pcbench import errors
from pcbench.errors import UsageError, WorkerCrashError
from pcbench.problem.network import Activities, Network
from pcbench.protocol import loading
from pcbench.protocol.implementation import OPTIONAL_METHODS, Inference, Manifest, methods_of
from pcbench.worker import frames
from pcbench.worker import process as processes
from pcbench.worker import serve as worker
from pcbench.worker.invoke import ARGUMENTS, Snapshot, call_method, deep_copy
from pcbench.worker.limits import Limits

_KEPT_NETWORKS = 8
_KEPT_BYTES = 1 << 28  # of all but the newest


class Surface:
    """Base class whose protocol methods all use `call`; an optional one not offered is an `AttributeError`.

    **Attributes:** `manifest`; `methods`, the optional methods offered; `info`, interpreter and versions; `last_meta`
    of the last call: `seconds` inside the implementation, `inputs_modified`, the names of the arrays it overwrote.
    """

    manifest: Manifest
    methods: tuple[str, ...]
    last_meta: dict[str, Any]

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of one method."""
        raise NotImplementedError

    def predict(self, network: Network, input: np.ndarray) -> np.ndarray:
        """See `Implementation.predict`."""
        return self.call("predict", network, input)

    def energy(self, network: Network, input: np.ndarray, target: np.ndarray, activities: Activities) -> float:
        """See `Implementation.energy`."""
        return self.call("energy", network, input, target, activities)

    def infer(
        self,
        network: Network,
        input: np.ndarray,
        target: np.ndarray,
        steps: int,
        step_size: float,
        start: Activities | None = None,
    ) -> Inference:
        """See `Implementation.infer`."""
        args = (network, input, target, steps, step_size)
        return self.call("infer", *args) if start is None else self.call("infer", *args, start)

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONAL_METHODS and name in self.__dict__.get("methods", ()):
            return functools.partial(self.call, name)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}; optional methods offered are in .methods"
        )

    def _check_method(self, method: str) -> None:
        if method not in self.methods and method not in loading.REQUIRED_METHODS:
            known = "" if method in ARGUMENTS else f"; methods are {', '.join(ARGUMENTS)}"
            raise UsageError(f"{self.manifest.name} offers no {method!r}{known}")

    def close(self) -> None:
        """Let go of the implementation."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WorkerClient(Surface):
    """An implementation in an interpreter of its own, started at once and again after a crash, at the next call.

    **Arguments:**

    - `spec`: see `pcbench.protocol.loading.load`; `python`: the interpreter, this one's for None.
    - `limits` of one call, beyond which the worker and its children are killed; `start_timeout`, seconds for the start.
    - `threads`: of the numerical libraries in the worker, None to leave them alone.
    - `env`: environment variables to add.

    **Raises:** `UsageError` for an interpreter or a spec that cannot work, `MissingLibraryError` if the library is not
    installed there, `ManifestError`, `AdapterError`, `WorkerCrashError` or `WorkerTimeoutError` if loading fails.  A
    call raises `AdapterError`, `ContractError`, `WorkerCrashError` or `WorkerTimeoutError`.
    """

    def __init__(
        self,
        spec: str,
        python: str | None = None,
        limits: Limits | None = None,
        start_timeout: float = 120.0,
        threads: int | None = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.python = processes.resolve_interpreter(python)
        self.limits = limits or Limits()
        self.start_timeout = start_timeout
        self.last_meta = {}
        self._env = processes.environment(python is None, threads, env)
        self._lock = threading.RLock()
        self._process: processes.Process | None = None
        self._networks = _Held()
        self._numbers = itertools.count(1)
        self._drops: list[int] = []
        self._stderr = ""
        self.starts = 0
        self.restart()

    def restart(self) -> None:
        """End the worker, if there is one, and start another."""
        with self._lock:
            self.close()
            self._networks, self._drops = _Held(), []
            self._process = processes.Process(self.python, self.spec, self._env, self.limits)
            self.starts += 1
            hello = self._exchange((), self.start_timeout, f"the start of {self.spec!r}")
            try:
                self.manifest, self.methods = hello["manifest"], tuple(hello["methods"])
                self._info = hello["info"]
            except (KeyError, TypeError):
                self.close()
                raise WorkerCrashError(f"the worker introduced itself with {hello!r}") from None

    def close(self) -> None:
        """Kill the worker and all its children; a later call starts another."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process.tail.join(1.0)
                self._stderr = self._process.tail.text
                self._process = None

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of one method of the implementation, a restarted one if the last has crashed."""
        with self._lock:
            self.last_meta = {}
            self._check_method(method)
            if self._process is None:
                self.restart()
            networks = [value for value in (*args, *kwargs.values()) if isinstance(value, Network)]
            messages, references = [], {}
            try:
                for network in networks:
                    more, references[id(network)] = self._ship(network)
                    messages += more
                messages.append(frames.encode({"call": method, "args": args, "kwargs": kwargs}, references))
            except frames.FrameError as error:
                self.close()  # the worker has not been told what the books say of it
                raise UsageError(f"{method} was given {error}") from None
            try:
                return self._exchange(tuple(messages), self.limits.call_seconds, method)
            finally:
                if any(name.startswith("network") for name in self.last_meta.get("inputs_modified", ())):
                    for network in networks:
                        self._drops += self._networks.forget(network)

    def _ship(self, network: Network) -> tuple[list[list[Any]], int]:
        """The frames after which the worker holds `network`, and the number under which it does."""
        number = self._networks.find(network)
        if number is not None:
            return [], number
        number = next(self._numbers)
        drops = self._drops + self._networks.forget(network)
        self._networks.add(network, number, Snapshot({"network": network}))
        drops += self._networks.evict()
        self._drops = []
        messages = [frames.encode({"drop": drop}) for drop in drops]
        return [*messages, frames.encode({"put": number, "network": network})], number

    @property
    def info(self) -> dict[str, Any]:
        """Interpreter, platform and library versions of the worker; asked anew while it lives."""
        with self._lock:
            if self._process is not None:
                self._info = self._exchange((frames.encode({"info": True}),), self.limits.call_seconds, "info")
            return self._info

    @property
    def stderr_tail(self) -> str:
        """The last 64 KiB that the implementation printed on standard output or standard error."""
        return self._process.tail.text if self._process is not None else self._stderr

    def _exchange(self, messages: tuple[list[Any], ...], timeout: float, what: str) -> Any:
        assert self._process is not None  # for the type checker; every caller has just started one
        try:
            reply = self._process.exchange(messages, timeout, what)
        except BaseException:
            self.close()
            raise
        if not isinstance(reply, dict) or not ("ok" in reply or "error" in reply):
            self.close()
            raise WorkerCrashError(f"the worker answered {what} with a frame of no known kind: {reply!r:.200}")
        self.last_meta = reply.get("meta", {})
        if "error" not in reply:
            return reply["ok"]
        told = reply["error"]
        error = errors.rebuild(told["class"], told["message"], told["traceback"])
        if what not in ARGUMENTS or isinstance(error, WorkerCrashError):  # no start, or memory ran out
            self.close()
            if isinstance(error, WorkerCrashError) or "MemoryError" in str(error):
                error.args = (f"{error}{processes.memory_limit(self.limits)}",)
        raise error


class _Held:
    """Cache of the networks that the implementation holds, so that none is sent again at every call.

    The same network is the same object with the same bytes; both are checked, because the owner of an array may write
    to it.  The least recently used are let go beyond 8, or beyond 256 MiB.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[int, tuple[Any, weakref.ref[Network], Snapshot, int]] = OrderedDict()

    def find(self, network: Network) -> Any:
        """The token under which `network` was added, None if it was not or has changed since."""
        entry = self._entries.get(id(network))
        if entry is None or entry[1]() is not network or not entry[2].matches({"network": network}):
            return None
        self._entries.move_to_end(id(network))
        return entry[0]

    def add(self, network: Network, token: Any, snapshot: Snapshot) -> None:
        """Remember what `network` became, and the bytes it had."""
        size = sum(w.nbytes for w in network.weights)
        self._entries[id(network)] = (token, weakref.ref(network), snapshot, size)
        self._entries.move_to_end(id(network))

    def evict(self) -> list[Any]:
        """Forget networks that no longer exist and those beyond the limits; their tokens."""
        entries = self._entries
        tokens = [entries.pop(key)[0] for key in [key for key, entry in entries.items() if entry[1]() is None]]
        while len(entries) > _KEPT_NETWORKS or (len(entries) > 1 and sum(e[3] for e in entries.values()) > _KEPT_BYTES):
            tokens.append(entries.popitem(last=False)[1][0])
        return tokens

    def forget(self, network: Network) -> list[Any]:
        """Forget one network; its token, if it had one."""
        entry = self._entries.pop(id(network), None)
        return [] if entry is None else [entry[0]]


class InProcess(Surface):
    """An implementation in this process behind the surface of `WorkerClient`: same copies, same errors, no isolation.

    **Arguments:** `implementation`: a spec (see `pcbench.protocol.loading.load`) an object with the methods of the
    protocol, or a class or function that is called without arguments and returns one.

    **Raises:** as `WorkerClient`, except that nothing stops a call that hangs or crashes.
    """

    stderr_tail = ""

    def __init__(self, implementation: Any) -> None:
        self.last_meta = {}
        self._networks = _Held()
        named = isinstance(implementation, str)
        self.spec = implementation if named else type(implementation).__qualname__
        self._implementation = loading.load(implementation) if named else loading.instantiate(implementation, self.spec)
        self.manifest = self._implementation.manifest
        self.methods = methods_of(self._implementation)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of one method of the implementation, which gets copies and whose answer is copied."""
        self.last_meta = {}
        self._check_method(method)
        snapshots: dict[int, Snapshot] = {}
        given = [self._copy_for_call(value, snapshots) for value in args]
        named = {name: self._copy_for_call(value, snapshots) for name, value in kwargs.items()}
        try:
            return deep_copy(call_method(self._implementation, method, given, named, self.last_meta, snapshots))
        finally:
            if any(name.startswith("network") for name in self.last_meta.get("inputs_modified", ())):
                for value in (*args, *kwargs.values()):
                    self._networks.forget(value)

    def _copy_for_call(self, value: Any, snapshots: dict[int, Snapshot]) -> Any:
        """A copy for the implementation, for a network one that is kept from call to call."""
        if not isinstance(value, Network):
            return deep_copy(value)
        token = self._networks.find(value)
        if token is None:
            copy = deep_copy(value)
            token = copy, Snapshot({"network": copy})
            self._networks.add(value, token, token[1])
            self._networks.evict()
        snapshots[id(token[0])] = token[1]
        return token[0]

    @property
    def info(self) -> dict[str, Any]:
        """Interpreter, platform and library versions of this process."""
        return worker.info(self.manifest.library)

    def restart(self) -> None:
        """Load the implementation again, if it was given by a spec."""
        if isinstance(self.spec, str) and ":" in self.spec:
            self._implementation = loading.load(self.spec)
