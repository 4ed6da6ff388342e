"""Implementations that misbehave: one class for each way.

Each class answers `predict` with its own kind of misbehaviour and, most of them, `energy` with 7.0, so that a test can
break a worker and see the same client go on.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from typing import Any

import numpy as np

from pcbench import Inference, Manifest


class Good:
    """Answers everything; `predict` is the input times two, which tells arrays from their copies."""

    manifest = Manifest(name="good")

    def predict(self, network, input):
        return 2 * input

    def energy(self, network, input, target, activities):
        return 7.0

    def infer(self, network, input, target, steps, step_size, start=None) -> Any:
        return Inference(activities=[input, target], energy=float(steps) * step_size)


class Exits(Good):
    def predict(self, network, input):
        os._exit(3)


class Segfaults(Good):
    def predict(self, network, input):
        return ctypes.string_at(0)


class Killed(Good):
    def predict(self, network, input):
        os.kill(os.getpid(), 9)


class Hangs(Good):
    def predict(self, network, input):
        sleep_for_ever()


def sleep_for_ever():
    time.sleep(1000)


class HangsWithChild(Good):
    """Starts a child that outlives it unless the whole group is killed; its pid goes to standard error."""

    def predict(self, network, input):
        child = os.fork()
        if not child:
            time.sleep(1000)
        print(f"child={child}", flush=True)  # noqa: T201
        time.sleep(1000)


def compute_for_ever():
    while True:
        pass


class Computes(Good):
    """`predict` never ends; `infer` uses up `step_size` seconds of CPU time."""

    def predict(self, network, input):
        compute_for_ever()

    def infer(self, network, input, target, steps, step_size, start=None) -> Any:
        until = time.process_time() + step_size
        while time.process_time() < until:
            pass
        return Inference(activities=[input])


class Allocates(Good):
    """`predict` wants 1 GiB, as an array in one piece; `infer` in pieces of 1 MiB, outside of Python."""

    def predict(self, network, input):
        return np.ones(1 << 27)

    def infer(self, network, input, target, steps, step_size, start=None) -> Any:
        malloc = ctypes.CDLL(None).malloc
        malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        for _ in range(1 << 10):
            if not malloc(1 << 20):
                os.abort()  # as C++ does when nobody catches std::bad_alloc
        return Inference(activities=[input])


class OutOfMemory(Good):
    def predict(self, network, input):
        raise MemoryError("needed 1 TiB")


class Raises(Good):
    def predict(self, network, input):
        raise ValueError("a shape I dislike")


class Leaves(Good):
    def predict(self, network, input):
        sys.exit("leaving")


class NotFinite(Good):
    def predict(self, network, input):
        return np.full_like(input, np.nan)

    def energy(self, network, input, target, activities):
        return float("inf")


class WrongShape(Good):
    def predict(self, network, input):
        return np.zeros((3, 0, 2), np.float16)


class Noisy(Good):
    """Ten megabytes by each of three roads: print, the descriptor of standard output, and standard error."""

    def predict(self, network, input):
        line = "x" * 1023
        for _ in range(10 * 1024):
            print(line)  # noqa: T201
        for _ in range(160):
            os.write(1, b"y" * 65536)
            os.write(2, b"z" * 65536)
        return 2 * input


class Overwrites(Good):
    """Adds one to what it is given, after reading it."""

    def predict(self, network, input):
        answer = input.copy()
        input += 1
        return answer

    def energy(self, network, input, target, activities):
        total = sum(float(w.sum()) for w in network.weights)
        network.weights[1][0, 0] += 1
        activities[1] = activities[0]
        return total


class SumsWeights(Good):
    """Not at fault: its energy tells which weights and scalings it sees."""

    def energy(self, network, input, target, activities):
        return sum(a * float(w.sum()) for a, w in zip(network.scalings, network.weights, strict=True))


class ReturnsObject(Good):
    def predict(self, network, input):
        return {"output": [input, object()]}


class ReturnsObjects(Good):
    def predict(self, network, input):
        return np.array([None, "a"], dtype=object)


class ReturnsTuple(Good):
    def infer(self, network, input, target, steps, step_size, start=None) -> Any:
        return [input], 0.0


class WritesGarbage(Good):
    """Writes to every descriptor that is open, as a library that closes and reopens numbers may do."""

    def predict(self, network, input):
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"Segmentation fault, said the library politely\n")
            except OSError:
                continue
        time.sleep(1000)


def write_half_a_frame():
    """The head of a frame that promises more than ever comes, to whatever accepts it."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, struct.pack("<4sIQ", b"PCB1", 100, 800) + b'{"t": "dict", "v"')
        except OSError:
            continue


class TornAndGone(Good):
    def predict(self, network, input):
        write_half_a_frame()
        os._exit(5)


class TornAndSilent(Good):
    def predict(self, network, input):
        write_half_a_frame()
        time.sleep(1000)


class Optional(Good):
    """Offers two of the optional methods."""

    def compilations(self):
        return 11

    def layer_energies(self, network, input, target, activities):
        return [np.float32(1.5), np.array(2.5)]


class LooksRound(Good):
    """Reports what it finds in its process."""

    def predict(self, network, input):
        try:
            answer = sys.stdin.read()
        except EOFError:
            answer = "end"
        return {
            "stdin": answer,
            "path": list(sys.path),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
            "pythonpath": os.environ.get("PYTHONPATH", ""),
            "modules": sorted(sys.modules),
        }


def slow_start():
    """A factory that takes longer than a short start time-out."""
    time.sleep(1000)


def greedy_start():
    """A factory that wants 1 GiB."""
    return np.ones(1 << 27)


def missing_library():
    """A factory whose library is missing, as an adapter reports it."""
    from pcbench.errors import MissingLibraryError

    raise MissingLibraryError("this adapter needs frobnicate: pip install frobnicate")


def no_manifest():
    """A factory of something with methods and no manifest."""
    instance = Good()
    instance.manifest = {"name": "a dictionary"}  # pyright: ignore[reportAttributeAccessIssue]
    return instance


def dies_at_start():
    """A factory that ends the process."""
    os._exit(4)


implementation = Good
instance = Good()
nothing = object()
