"""Prepare both sides of a gate for measurement: offers, equal inputs, and the rows that may be shown.

A figure without a right answer is none, so a row is withheld where conformance did not pass in its dtype, and that of
the equilibrium also where the answer is not certified by pcbench's own theory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pcbench import theory
from pcbench.errors import ContractError, ImplementationError
from pcbench.gate.outcome import Conformance
from pcbench.gate.rows import CERTIFIED, TRAINING_ITERATIONS, Chosen, Task
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.protocol.implementation import Manifest
from pcbench.timing.harness import Harness, Side
from pcbench.worker.subject import adapt_problem

LEAST_SECONDS = 0.02
"""What a timed body lasts at least: the clock's resolution is a thousandth of a thousandth of it."""
BODIES = 12
"""Timed bodies of a process, of which the shortest counts."""


@dataclass
class Sides:
    """Both sides of a gate as one measuring function; call `prepare` first.

    **Arguments:** `sides` by label, `base` and `head`; `chosen` rows; `least_seconds` of a timed
    body; `bodies` of a process.

    **Attributes:** `excluded`, task -> outcome and reason, for tasks that are not measured; `host` of the processes.
    """

    harness: Harness
    sides: Mapping[str, Side]
    chosen: Chosen
    least_seconds: float = LEAST_SECONDS
    bodies: int = BODIES
    excluded: dict[str, tuple[str, str]] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    _requests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prepare(self, conformance: Mapping[str, Conformance]) -> None:
        """Ask both sides what they offer, exclude what cannot be compared, and measure every task once on each.

        These first processes also fill caches of the disk and of bytecode, and are not counted.

        **Raises:** `UsageError` or `ImplementationError` if a side cannot be loaded at all.
        """
        offers = {label: self.harness.measure(side, []) for label, side in self.sides.items()}
        self.host = next(iter(offers.values()))["host"]
        manifests = {label: Manifest.from_json(offer["manifest"]) for label, offer in offers.items()}
        for name, task in self.chosen.tasks.items():
            lacking = [label for label, offer in offers.items() if not _is_offered(task.method, offer["methods"])]
            if lacking:
                self.excluded[name] = "not-applicable", f"{' and '.join(lacking)} offers no {task.method}"
                continue
            problem = task.problem
            for manifest in manifests.values():
                problem = adapt_problem(problem, manifest.capabilities)
            unjudged = [label for label, c in conformance.items() if problem.dtype not in c.dtypes]
            if unjudged:
                why = f"{problem.dtype} was not judged in the conformance run of {' and '.join(unjudged)}"
                self.excluded[name] = "withheld", why
                continue
            self._requests[name] = request(
                self.harness.directory, task, problem, least_seconds=self.least_seconds, bodies=self.bodies
            )
            for label in self.sides:
                self._first(label, task, problem, manifests[label])

    def __call__(self, label: str, task: str) -> dict[str, float]:
        """What one fresh process of a side measures of one task."""
        answer = self.harness.measure(self.sides[label], [self._requests[task]])
        return answer["tasks"][task]

    def _first(self, label: str, task: Task, problem: Problem, manifest: Manifest) -> None:
        """The first process of a side: fixes the number of calls in a body for both, and shows the answer."""
        asked, kept = self._requests[task.name], self.harness.directory / "answer.npz"
        if task.name in self.excluded:
            return
        try:
            answer = self.harness.measure(self.sides[label], [{**asked, "keep": str(kept)}])
            asked["calls"] = answer["tasks"][task.name]["calls"]
            self.host.update(answer["host"])
            if task.method == "equilibrium":
                with np.load(kept) as arrays:
                    certify(problem, manifest, [arrays[name] for name in arrays.files])
        except ContractError as error:
            self.excluded[task.name] = "withheld", f"{label}: {error}"
        except ImplementationError as error:
            self.excluded[task.name] = "error", f"{label}: {error}"


def certify(problem: Problem, manifest: Manifest, activities: Sequence[np.ndarray]) -> None:
    """Refuse activities, as the implementation returned them, that are not shown to be at the problem's equilibrium.

    **Raises:** `ContractError` if the energy is not certified to `CERTIFIED` of the loss, 1e-4 in float32.
    """
    z = [np.asarray(a, np.float64) for a in activities]
    z = z[::-1] if manifest.conventions.activity_order == "output-first" else z
    network = problem.network().astype("float64")
    x, y = problem.input().astype(np.float64), problem.target().astype(np.float64)
    certificate = theory.certify(network, x, y, z)
    allowed = (CERTIFIED if problem.dtype == "float64" else 1e-4) * network.precision * oracle.loss(network, x, y)
    if not certificate.mean_gap_bound <= allowed:
        raise ContractError(
            f"its equilibrium is not certified: the energy is {certificate.mean_gap_bound:.2g} above the minimum "
            f"at most, needed {allowed:.2g} ({certificate.reason})"
        )


def request(
    directory: Path, task: Task, problem: Problem, *, least_seconds: float = LEAST_SECONDS, bodies: int = BODIES
) -> dict[str, Any]:
    """A task as plain data for `measure`, its arrays in a file of `directory`, the same for every process."""
    network: Network = problem.network()
    path = directory / f"{task.name}.npz"
    arrays = {f"weight{l}": w for l, w in enumerate(network.weights)}
    arrays |= {f"activity{l}": z for l, z in enumerate(problem.activities())}
    np.savez(path, allow_pickle=False, input=problem.input(), target=problem.target(), **arrays)
    names = ("scalings", "skips", "activation", "placement", "loss", "precision", "parameterisation",
             "output_multiplier")  # fmt: skip
    made = {
        "name": task.name, "method": task.method, "arrays": str(path), "steps": problem.steps,
        "step_size": problem.step_size, "learning_rate": 1e-3, "iterations": TRAINING_ITERATIONS,
        "divisor": task.divisor if task.method != "train" else TRAINING_ITERATIONS,
        "least_seconds": least_seconds, "bodies": bodies,
        "network": {name: getattr(network, name) for name in names},
    }  # fmt: skip
    return json.loads(json.dumps(made))


def _is_offered(method: str, methods: Sequence[str]) -> bool:
    return method in ("infer", "predict", "energy") or method in methods
