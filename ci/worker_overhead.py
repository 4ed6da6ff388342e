#!/usr/bin/env python
"""Measure what it costs per call to run an implementation in a worker process.

    python ci/worker_overhead.py                  # the NumPy adapter; writes ci/reports/worker.md
    python ci/worker_overhead.py reference --output .

The problems are those that the standard profile draws for this implementation, one of every shape, and two large
ones.  A network is sent once; activities are new in every call, as they are in a law.  What is subtracted is measured
by the worker: from the moment it has its arguments until the answer is NumPy arrays.  What remains is coding and
decoding, the copies that show whether an input was overwritten, both pipes, and being woken twice.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pcbench.properties import mlp as strategies

from pcbench.adapters import register as adapters
from pcbench.laws import REGISTRY
from pcbench.laws.measuring.compare import case
from pcbench.problem.mlp import Problem
from pcbench.report.profiles import PROFILES
from pcbench.timing import machine
from pcbench.worker.client import WorkerClient
from pcbench.worker.subject import Subject

ROOT = Path(__file__).resolve().parent
LARGE = (
    Problem(input_dim=64, width=512, depth=8, output_dim=10, batch=64, dtype="float32", seed=1),
    Problem(input_dim=512, width=512, depth=32, output_dim=10, batch=256, dtype="float32", seed=1),
)
CALLS = 200


def draw_problems(subject: Subject, seed: int) -> list[Problem]:
    """One problem of every shape that the standard profile draws for the law of the energy."""
    domain, capabilities = REGISTRY["energy.matches-definition"].domain, subject.manifest.capabilities
    chosen = strategies.configurations(domain, capabilities, seed, PROFILES["standard"].shapes)
    found = {c.shape: c.problem(seed=k) for k, c in enumerate(chosen)}
    return list(found.values())


def overheads(client: WorkerClient, subject: Subject, problem: Problem, calls: int) -> dict[str, list[float]]:
    """Seconds of each call that the implementation itself did not use, for each method."""
    network, x, y = case(problem)
    network = subject.as_sent(network)
    states = [[np.array(z) for z in problem.activities()] for _ in range(2)]
    asked: dict[str, Callable[[list[np.ndarray]], tuple[Any, ...]]] = {
        "energy": lambda z: (network, x, y, z),
        "weight_gradients": lambda z: (network, x, y, z),
        "infer": lambda z: (network, x, y, 1, problem.step_size, z),
    }
    result: dict[str, list[float]] = {name: [] for name in asked}
    for k in range(calls + 5):
        for name, arguments in asked.items():
            given = arguments(states[k % 2])
            began = time.perf_counter()
            client.call(name, *given)
            spent = time.perf_counter() - began - client.last_meta["seconds"]
            if k >= 5:  # before that the network is sent and programs are compiled
                result[name].append(spent)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the table; exit code 1 if the median over all drawn problems is 1 ms or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "implementation", nargs="?", default="numpy", help="implementation, named as for pcbench check (default: numpy)"
    )
    parser.add_argument("--python", help="Python interpreter that has the library under test")
    parser.add_argument("--seed", type=int, default=1, help="seed of the problems (default: 1)")
    parser.add_argument(
        "--calls", type=int, default=CALLS, help=f"number of calls of each method and problem (default: {CALLS})"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "reports", help="folder of worker.md")
    options = parser.parse_args(arguments)
    rows, all_of_them = [], []
    # a runner and its worker share one CPU in a check
    machine.pin_to_cpu(os.getpid(), 0, len(machine.available_cpus()))
    with WorkerClient(adapters.resolve(options.implementation), options.python) as client:
        subject = Subject(client)
        problems = draw_problems(subject, options.seed)
        for problem in (*problems, *LARGE):
            measured = overheads(client, subject, problem, options.calls if problem not in LARGE else 20)
            sent = sum(np.asarray(z).nbytes for z in problem.activities())
            cells = [f"{1e3 * statistics.median(v):.2f}" for v in measured.values()]
            shape = "-".join(map(str, problem.shape))
            rows.append(f"| {shape} | {problem.dtype} | {sent / 1e3:.1f} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
            if problem in problems:
                all_of_them += [s for v in measured.values() for s in v]
    median, high = statistics.median(all_of_them), float(np.quantile(all_of_them, 0.9))
    said = f"Over all drawn problems: median {1e3 * median:.2f} ms, nine of ten below {1e3 * high:.2f} ms."
    lines = [
        f"# What a worker costs: {options.implementation}",
        "",
        f"Generated by `ci/worker_overhead.py` with {options.calls} calls of each method; medians in ms, beyond the "
        f"time that the implementation takes itself. {said}",
        "",
        "| input-width-depth-output-batch | dtype | activities, kB | energy | weight_gradients | infer, 1 step |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "worker.md").write_text("\n".join(lines) + "\n")
    print(said)
    return 1 if median >= 1e-3 else 0


if __name__ == "__main__":
    sys.exit(main())
