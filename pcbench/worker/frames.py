r"""Frames that carry values and arrays across a pipe: a JSON header and raw bytes, no pickle.

A frame is `PCB1`, the length of the header (4 bytes, little-endian), the length of the body (8 bytes), the header, the
body.  The header is the value as JSON with each array replaced by its dtype, shape and order; the body is the arrays'
bytes in that order, each starting at a multiple of 16.  Lengths are checked against each other before memory is taken.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from pcbench.errors import PcbenchError
from pcbench.problem.architecture import Architecture
from pcbench.problem.network import Network
from pcbench.protocol.implementation import Equilibrium, Inference, Manifest

MAGIC = b"PCB1"
_PRELUDE = struct.Struct("<4sIQ")
_JSON = json.JSONEncoder(separators=(",", ":"))  # built once: a third of the time of a small frame
_ALIGN = 16
_MAX_HEADER = 1 << 26
_MAX_BODY = 1 << 42
_CHUNK = 1 << 16
_VECTOR = 512  # buffers in one system call; POSIX promises no more than IOV_MAX, 1024 on Linux
KINDS = "biufc"
"""The kinds of dtype that a frame carries: booleans, integers, floats and complex numbers."""
_RECORDS: dict[str, type] = {
    "network": Network,
    "architecture": Architecture,
    "inference": Inference,
    "equilibrium": Equilibrium,
}


class FrameError(PcbenchError, ValueError):
    """Bytes that are no frame, a frame that ends early, or a value that no frame carries."""


class EndOfFrames(FrameError):  # noqa: N818 - the regular end of a stream is no error where it is expected
    """The other side closed the pipe between two frames."""


def contiguous(array: np.ndarray) -> memoryview:
    """The array's bytes in memory order: a view for C and Fortran order, of a copy in C order for any other."""
    if array.flags.c_contiguous:
        flat: Any = array
    elif array.flags.f_contiguous:
        flat = array.T
    else:
        flat = np.ascontiguousarray(array)
    return memoryview(flat.reshape(-1).view(np.uint8))


def _pack(value: Any, arrays: list[np.ndarray], references: Mapping[int, int]) -> Any:
    """`value` as JSON data, its arrays appended to `arrays`; networks in `references` (by `id`) become numbers."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in KINDS:
            raise FrameError(f"an array of dtype {value.dtype} cannot be sent: needed numbers or booleans")
        arrays.append(value)
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return {"t": "array", "d": value.dtype.str, "s": value.shape, "o": order}
    if isinstance(value, np.generic):
        return {"t": "scalar", "v": _pack(np.asarray(value), arrays, references)}
    if isinstance(value, list):
        return [_pack(item, arrays, references) for item in value]
    if isinstance(value, tuple):
        return {"t": "tuple", "v": [_pack(item, arrays, references) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"t": "dict", "v": {key: _pack(item, arrays, references) for key, item in value.items()}}
    if isinstance(value, Network) and id(value) in references:
        return {"t": "reference", "v": references[id(value)]}
    if isinstance(value, Manifest):
        return {"t": "manifest", "v": _pack(value.to_json(), arrays, references)}
    for name, record in _RECORDS.items():
        if isinstance(value, record):
            items = {f.name: _pack(getattr(value, f.name), arrays, references) for f in fields(record)}
            return {"t": name, "v": items}
    if isinstance(value, (bool, int, float, str)):  # subclasses: enumerations and the like
        return next(base(value) for base in (int, float, str) if isinstance(value, base))
    raise FrameError(f"a value of type {kind.__module__}.{kind.__qualname__} cannot be sent: {str(value)[:80]!r}")


def encode(value: Any, references: Mapping[int, int] | None = None) -> list[Any]:
    """The buffers of one frame, to be written one after another; arrays are not copied unless neither C nor F order.

    **Arguments:** `references` maps `id(network)` to the number under which the other side already holds it.

    **Raises:** `FrameError` for a value that no frame carries.
    """
    arrays: list[np.ndarray] = []
    packed = _pack(value, arrays, references or {})
    header = _JSON.encode(packed).encode()
    buffers: list[Any] = [b""]
    length = 0
    for array in arrays:
        if array.nbytes:
            buffers.append(contiguous(array))
            padding = -array.nbytes % _ALIGN
            if padding:
                buffers.append(bytes(padding))
            length += array.nbytes + padding
    buffers[0] = _PRELUDE.pack(MAGIC, len(header), length) + header
    return buffers


def _sizes(packed: Any) -> list[int]:
    """The byte counts of the arrays of a header, in the order of the body."""
    if isinstance(packed, list):
        return [size for item in packed for size in _sizes(item)]
    if not isinstance(packed, dict):
        return []
    if packed["t"] != "array":
        inner = packed["v"]
        untagged = packed["t"] == "dict" or packed["t"] in _RECORDS  # a plain mapping, no value with a tag of its own
        return _sizes(list(inner.values()) if untagged else inner)
    dtype, shape = np.dtype(packed["d"]), packed["s"]
    if dtype.kind not in KINDS or packed["o"] not in ("C", "F") or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"impossible array {packed!r}")
    return [dtype.itemsize * math.prod(shape)]


class _Unpacker:
    """Turns a header and a body into the value; arrays are writable views of the body, which nothing else shares."""

    def __init__(self, body: bytearray, networks: Mapping[int, Network]) -> None:
        self.body = body
        self.networks = networks
        self.offset = 0

    def array(self, packed: dict[str, Any]) -> np.ndarray:
        dtype, shape = np.dtype(packed["d"]), tuple(packed["s"])
        count = math.prod(shape)
        if not count:
            return np.empty(shape, dtype)
        flat = np.frombuffer(self.body, dtype, count, self.offset)
        self.offset += flat.nbytes + -flat.nbytes % _ALIGN
        return flat.reshape(shape, order=packed["o"])

    def value(self, packed: Any) -> Any:
        if isinstance(packed, list):
            return [self.value(item) for item in packed]
        if not isinstance(packed, dict):
            return packed
        tag = packed["t"]
        if tag == "array":
            return self.array(packed)
        inner = packed["v"]
        if tag == "scalar":
            return self.array(inner)[()]
        if tag == "tuple":
            return tuple(self.value(item) for item in inner)
        if tag == "reference":
            return self.networks[inner]
        if tag == "manifest":
            return Manifest.from_json(self.value(inner))
        items = {key: self.value(item) for key, item in inner.items()}
        return items if tag == "dict" else _RECORDS[tag](**items)


def _preview(data: bytes | bytearray) -> str:
    return repr(bytes(data[:60])) + (" ..." if len(data) > 60 else "")


class Channel:
    """Frames over two file descriptors; `wait(descriptor, event)`, if given, is called before each read and write.

    The wait is where the harness keeps its deadline and notices that the worker is gone; the worker has none.
    """

    def __init__(self, read_fd: int, write_fd: int, wait: Callable[[int, int], None] | None = None) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._wait = wait
        self._buffer = bytearray()

    def send(self, *frames: list[Any]) -> None:
        """Write frames made by `encode`.

        **Raises:** `OSError` if the other side is gone, and what `wait` raises.
        """
        buffers = [memoryview(buffer) for frame in frames for buffer in frame]
        start = 0
        while start < len(buffers):
            try:
                written = os.writev(self._write_fd, buffers[start : start + _VECTOR])
            except BlockingIOError:  # the pipe is full
                if self._wait is not None:
                    self._wait(self._write_fd, select.POLLOUT)
                continue
            while start < len(buffers) and written >= len(buffers[start]):
                written -= len(buffers[start])
                start += 1
            if written:
                buffers[start] = buffers[start][written:]

    def receive(self, networks: Mapping[int, Network] | None = None) -> Any:
        """The value of the next frame.

        **Raises:** `EndOfFrames` at the end of the stream, `FrameError` for anything else that is no frame.
        """
        self._fill(_PRELUDE.size)
        _, header_length, body_length = _PRELUDE.unpack_from(self._buffer)
        if header_length > _MAX_HEADER or body_length > _MAX_BODY:
            raise FrameError(f"a frame announces a header of {header_length} and a body of {body_length} bytes")
        start = _PRELUDE.size + header_length
        self._fill(start)
        try:
            packed = json.loads(bytes(self._buffer[_PRELUDE.size : start]))
            needed = sum(size + -size % _ALIGN for size in _sizes(packed))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise FrameError(f"a frame with a header that is not understood: {error}") from None
        if needed != body_length:
            raise FrameError(f"a frame announces {body_length} bytes of arrays, but its header describes {needed}")
        body = self._body(start, body_length)
        try:
            return _Unpacker(body, networks or {}).value(packed)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FrameError(f"a frame whose value is not understood: {type(error).__name__}: {error}") from None

    @property
    def surplus(self) -> str:
        """Bytes that arrived after the last frame, as text; empty if there are none."""
        return _preview(self._buffer) if self._buffer else ""

    def _fill(self, count: int) -> None:
        """Read until the buffer holds `count` bytes, refusing a wrong beginning as soon as it can be seen."""
        buffer = self._buffer
        while True:
            if not buffer.startswith(MAGIC[: len(buffer)]):
                raise FrameError(f"bytes that are no frame: {_preview(buffer)}")
            if len(buffer) >= count:
                return
            chunk = self._read(_CHUNK)
            if not chunk:
                if buffer:
                    raise FrameError(f"a frame that ends after {len(buffer)} bytes: {_preview(buffer)}")
                raise EndOfFrames("the pipe was closed")
            buffer += chunk

    def _body(self, start: int, length: int) -> bytearray:
        """The body that follows the first `start` bytes of the buffer; what lies beyond it stays in the buffer."""
        try:
            body = bytearray(length)
        except MemoryError:
            raise FrameError(f"a frame with {length} bytes of arrays, more than memory holds") from None
        got = min(length, len(self._buffer) - start)
        body[:got] = self._buffer[start : start + got]
        del self._buffer[: start + got]
        view = memoryview(body)
        while got < length:
            if self._wait is not None:
                self._wait(self._read_fd, select.POLLIN)
            count = os.readv(self._read_fd, [view[got:]])
            if not count:
                raise FrameError(f"a frame that ends after {got} of {length} bytes of arrays")
            got += count
        return body

    def _read(self, count: int) -> bytes:
        if self._wait is not None:
            self._wait(self._read_fd, select.POLLIN)
        return os.read(self._read_fd, count)
