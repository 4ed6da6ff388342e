"""Limits of CPU time and memory, and how long a process lives: what a library may take, and what it may remember."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcbench import Network
from pcbench.conformance import run as runner
from pcbench.errors import ImplementationError, UsageError, WorkerCrashError, WorkerTimeoutError
from pcbench.worker.client import WorkerClient
from pcbench.worker.limits import Limits

FAULTS = str(Path(__file__).parent / "faults" / "misbehaving.py")
INPUT = np.arange(6.0).reshape(2, 3)
NETWORK = Network(weights=(np.ones((3, 3)), np.ones((3, 3))), scalings=(1.0, 1.0), skips=(0.0, 0.0))


def fault(name: str, **limits) -> WorkerClient:
    return WorkerClient(f"{FAULTS}:{name}", limits=Limits(**limits))


def answers(client: WorkerClient) -> bool:
    return client.energy(NETWORK, INPUT, INPUT, [INPUT]) == 7.0


def test_a_call_that_computes_too_long_is_ended_and_says_where_it_was():
    """If this fails, an endless loop holds a core until the clock runs out, or is reported as a crash."""
    with fault("Computes", cpu_seconds=1.0) as client:
        said = r"predict used more than 1 s of CPU time: the worker was killed(?s:.*)in compute_for_ever"
        with pytest.raises(WorkerTimeoutError, match=said):
            client.predict(NETWORK, INPUT)
        assert answers(client)
        assert client.starts == 2


def test_cpu_time_is_counted_anew_for_every_call():
    """If this fails, a long run of short calls dies of the limit of one."""
    with fault("Computes", cpu_seconds=2.0) as client:
        for _ in range(5):
            client.infer(NETWORK, INPUT, INPUT, 1, 0.7)  # far below the limit each, and together well above it
        assert client.starts == 1


@pytest.mark.parametrize(
    ("method", "args", "says"),
    [
        ("predict", (), r"out of memory: predict raised \S*MemoryError.*memory was limited to 400 MiB"),
        ("infer", (INPUT, 1, 1.0), r"killed by SIGABRT.*during infer \(its memory was limited to 400 MiB\)"),
    ],
)
def test_memory_beyond_the_limit_is_refused_and_named(method, args, says):
    """If this fails, a library may take all memory of the machine, or its death does not say that it had a limit."""
    with fault("Allocates", memory_mib=400) as client:
        with pytest.raises(WorkerCrashError, match=says):
            client.call(method, NETWORK, INPUT, *args)
        assert answers(client)
        assert client.starts == 2
    with fault("Allocates") as client:  # without a limit both get what they want
        answer = client.call(method, NETWORK, INPUT, *args)
        assert method != "predict" or answer.nbytes == 1 << 30


@pytest.mark.parametrize("mib", [1, 400])
def test_memory_is_limited_before_the_library_is_loaded(mib):
    """If this fails, what a library allocates on import does not count, or too small a limit has no explanation."""
    with pytest.raises(ImplementationError, match=rf"memory was limited to {mib} MiB"):
        fault("greedy_start", memory_mib=mib)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"call_seconds": 0.0}, "timeout 0.0: needed a positive number of seconds"),
        ({"cpu_seconds": -1.0}, "CPU limit -1.0: needed a positive number of seconds of CPU time"),
        ({"memory_mib": 0}, "memory limit 0: needed a positive number of MiB"),
    ],
)
def test_limits_that_nobody_could_keep_are_refused(limits, says):
    """If this fails, a limit of nothing kills every worker, or is taken for no limit."""
    with pytest.raises(UsageError, match=says):
        Limits(**limits)


KEEPS_ITS_FIRST_WEIGHTS = """
from pcbench.adapters.numpy import NumpyPCN

class Keeps(NumpyPCN):
    def __init__(self):
        self.first = {}

    def energy(self, network, input, target, activities):
        # As a library does that registers cells under a name, and returns those that bear it already.
        kept = self.first.setdefault((network.dims, network.dtype), network.weights)
        return super().energy(network.with_weights(kept), input, target, activities)

implementation = Keeps
"""


@pytest.mark.parametrize(("isolation", "outcome"), [("run", "fail"), ("law", "fail"), ("example", "pass")])
def test_what_leaks_from_one_problem_to_the_next_shows_and_can_be_kept_apart(tmp_path, isolation, outcome):
    """If this fails, state of earlier problems is not seen, or a fresh process for each example is not fresh.

    `energy.matches-definition` asks about one network an example, so that the first weights are the right ones in
    every process that is new; several examples of one shape share a process otherwise.
    """
    adapter = tmp_path / "keeps.py"
    adapter.write_text(KEEPS_ITS_FIRST_WEIGHTS)
    report = runner.check(
        str(adapter) + ":implementation",
        profile="smoke",
        seed=1,
        laws=["energy.matches-definition"],
        isolation=isolation,
        journal_dir=None,
    )
    assert [v.outcome for v in report.verdicts] == [outcome]


def test_first_weights_that_are_kept_show_although_every_example_has_a_fresh_process(tmp_path):
    """If this fails, an adapter that names all its contexts alike passes wherever it is asked about one network only.

    It answers the same question twice in the same way, so that only a process which has not heard of the first network
    tells.
    """
    adapter = tmp_path / "keeps.py"
    adapter.write_text(KEEPS_ITS_FIRST_WEIGHTS)
    laws = ["contract.deterministic", "contract.deterministic-across-processes"]
    report = runner.check(str(adapter), profile="smoke", seed=1, laws=laws, isolation="example")
    assert {v.law: v.outcome for v in report.verdicts} == dict(zip(laws, ("pass", "fail"), strict=True))


@pytest.mark.parametrize("option", [{"cpu_limit": 1.0}, {"memory_limit": 1}, {"isolation": "law"}])
def test_limits_need_a_process_of_its_own(option):
    """If this fails, a limit is accepted that nothing keeps."""
    with pytest.raises(UsageError, match="leave out in_process"):
        runner.check("numpy", in_process=True, **option)


def test_an_isolation_that_does_not_exist_is_refused():
    """If this fails, a misspelt isolation means none."""
    with pytest.raises(UsageError, match=r"isolation 'case': needed one of run, law, example"):
        runner.check("numpy", isolation="case")
