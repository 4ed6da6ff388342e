r"""Call one method of an implementation: answer as plain data, time taken, and inputs overwritten.

The worker and the harness's own in-process road share this module, so that both see the same faults the same way.
"""

from __future__ import annotations

import time
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from pcbench.errors import AdapterError, ContractError, MissingLibraryError, UsageError, WorkerCrashError
from pcbench.problem.architecture import Architecture
from pcbench.problem.network import Network
from pcbench.protocol.implementation import Equilibrium, Inference, Manifest
from pcbench.worker.frames import KINDS, contiguous

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "predict": ("network", "input"),
    "energy": ("network", "input", "target", "activities"),
    "infer": ("network", "input", "target", "steps", "step_size", "start"),
    "weight_gradients": ("network", "input", "target", "activities"),
    "activity_gradients": ("network", "input", "target", "activities"),
    "layer_energies": ("network", "input", "target", "activities"),
    "equilibrium": ("network", "input", "target"),
    "train": ("network", "input", "target", "iterations", "learning_rate", "steps", "step_size"),
    "fixed_prediction_gradients": ("network", "input", "target"),
    "zero_divergence_gradients": ("network", "input", "target"),
    "compilations": (),
}
"""The names of the positional arguments of every method of the protocol."""

_ANSWERS: dict[str, type] = {"infer": Inference, "equilibrium": Equilibrium}
_COPY_LIMIT = 1 << 28  # beyond 256 MiB a checksum (4 GB/s) instead of a copy (20 GB/s), which doubles the memory
_DEEPEST = 16


def arrays_in(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array inside `value`, with a name such as `activities[1]` or `network.weights[0]`."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for k, item in enumerate(value):
            yield from arrays_in(f"{name}[{k}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from arrays_in(f"{name}[{key!r}]", item)
    elif isinstance(value, Network):
        yield from arrays_in(name + ".weights", value.weights)
    elif isinstance(value, Architecture):
        yield from arrays_in(name + ".parameters", value.parameters)


class Snapshot:
    """The arrays inside some values as they are now, to find out later which have changed, to the bit."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._before = [(name, array, _image(array)) for name, array in self._arrays()]

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        return [pair for name, value in self._values.items() for pair in arrays_in(name, value)]

    def changed_arrays(self) -> list[str]:
        """The names of the arrays whose bytes have changed, or that have been exchanged in their list."""
        now = dict(self._arrays())
        return [name for name, array, image in self._before if now.get(name) is not array or not _matches(array, image)]

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether other values hold the bytes that these held."""
        arrays = [pair for name, value in values.items() for pair in arrays_in(name, value)]
        return len(arrays) == len(self._before) and all(
            array.dtype == old.dtype and array.shape == old.shape and _matches(array, image)
            for (_, array), (_, old, image) in zip(arrays, self._before, strict=True)
        )


def _image(array: np.ndarray) -> bytearray | int:
    flat = contiguous(array)
    return bytearray(flat) if array.nbytes <= _COPY_LIMIT else zlib.crc32(flat)


def _matches(array: np.ndarray, image: bytearray | int) -> bool:
    flat = contiguous(array)
    # bytearray compares with any buffer by memcmp, ten times faster than NumPy for small arrays
    return zlib.crc32(flat) == image if isinstance(image, int) else image == flat


def deep_copy(value: Any) -> Any:
    """`value` with fresh, writable arrays and fresh lists."""
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, (list, tuple)):
        return type(value)(deep_copy(item) for item in value)
    if isinstance(value, dict):
        return {key: deep_copy(item) for key, item in value.items()}
    if isinstance(value, Network):
        return value.with_weights([w.copy(order="K") for w in value.weights])
    if isinstance(value, Architecture):
        return value.with_parameters(deep_copy(value.parameters))
    if isinstance(value, (Inference, Equilibrium)):
        return replace(value, **{key: deep_copy(item) for key, item in vars(value).items()})
    return value


def to_numpy_data(value: Any, name: str = "the answer", depth: int = 0) -> Any:
    """An answer as NumPy arrays, numbers, strings, None, lists, tuples, dictionaries and pcbench's records of them.

    Arrays of other libraries become NumPy arrays of the same dtype and shape; nothing is converted otherwise.

    **Raises:** `ContractError`, naming the part, for what is neither.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth > _DEEPEST:
        raise ContractError(f"{name} is nested more than {_DEEPEST} deep: needed arrays and flat lists of them")
    if isinstance(value, (np.ndarray, np.generic)):
        return _numeric(value, name)
    if isinstance(value, (list, tuple)):
        items = [to_numpy_data(item, f"{name}[{k}]", depth + 1) for k, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ContractError(f"{name} is a dictionary with keys other than strings")
        return {key: to_numpy_data(item, f"{name}[{key!r}]", depth + 1) for key, item in value.items()}
    if isinstance(value, (Inference, Equilibrium)):
        changes = {key: to_numpy_data(item, f"{name}.{key}", depth + 1) for key, item in vars(value).items()}
        return replace(value, **changes)
    if isinstance(value, (Network, Architecture, Manifest)):
        return value
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except Exception as error:
            raise ContractError(
                f"{name}, a {_type(value)}, does not become a NumPy array ({type(error).__name__}: {error}): "
                "the adapter must return arrays on the host, detached from any gradient"
            ) from error
        return _numeric(array, name)
    raise ContractError(f"{name} is a {_type(value)}: needed NumPy arrays, numbers or None, or lists of them")


def _numeric(value: np.ndarray | np.generic, name: str) -> np.ndarray | np.generic:
    if value.dtype.kind not in KINDS:
        raise ContractError(f"{name} has dtype {value.dtype}, shape {value.shape}: needed the network's dtype")
    # a subclass (a masked array, a matrix) computes by rules of its own
    return np.asarray(value) if isinstance(value, np.ndarray) else value


def _type(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def call_method(
    implementation: Any,
    method: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    meta: dict[str, Any],
    snapshots: Mapping[int, Snapshot] = MappingProxyType({}),
) -> Any:
    """The plain answer of `implementation.method(*args, **kwargs)`, whose arrays it may overwrite.

    `snapshots`, by `id`, are those of networks that were received earlier, so that none is copied at every call.
    `meta` receives `seconds`, from the call until the answer is NumPy arrays (which waits for what an asynchronous
    library still computes), and `inputs_modified`, the names of the arrays that were overwritten; both also if the
    call fails.

    **Raises:** `UsageError` if there is no such method; `ContractError` for an answer of a wrong type;
    `MissingLibraryError` if the adapter raises it; `WorkerCrashError` if memory ran out; `AdapterError` otherwise.
    """
    function = getattr(implementation, method, None)
    if method.startswith("_") or not callable(function):
        raise UsageError(f"{implementation.manifest.name} has no method {method!r}: its manifest and methods say so")
    names = ARGUMENTS.get(method, ())
    given = {names[k] if k < len(names) else f"argument {k}": value for k, value in enumerate(args)}
    given.update(kwargs)
    earlier = [snapshots[id(value)] for value in given.values() if id(value) in snapshots]
    now = Snapshot({name: value for name, value in given.items() if id(value) not in snapshots})
    started = time.perf_counter()
    try:
        answer = to_numpy_data(function(*args, **kwargs))
    except (ContractError, MissingLibraryError):
        raise
    except (Exception, SystemExit) as error:
        raise _wrap_exception(error, method) from error
    finally:
        meta["seconds"] = time.perf_counter() - started
        meta["inputs_modified"] = [name for snapshot in (*earlier, now) for name in snapshot.changed_arrays()]
    needed = _ANSWERS.get(method)
    if needed is not None and not isinstance(answer, needed):
        raise ContractError(f"{method} returned a {_type(answer)}: needed a pcbench.{needed.__name__}")
    return answer


def _wrap_exception(error: BaseException, method: str) -> AdapterError | WorkerCrashError:
    text = f"{method} raised {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    if memory or str(error).startswith("RESOURCE_EXHAUSTED"):
        return WorkerCrashError(f"out of memory: {text}", trace)
    return AdapterError(text, trace)
