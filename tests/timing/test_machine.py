"""Where the runners of a run are placed."""

import os
import subprocess
import sys

import pytest

from pcbench.timing import machine

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not place processes")


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


@needs_affinity
def test_runners_share_the_cpus_where_every_cpu_has_one(sleeper, monkeypatch):
    """If this fails, a runner and its worker wake another CPU at every call."""
    cpus = sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(machine, "available_cpus", lambda: cpus if len(cpus) > 1 else [*cpus, -1])
    machine.pin_to_cpu(sleeper.pid, len(machine.available_cpus()), len(machine.available_cpus()))
    assert os.sched_getaffinity(sleeper.pid) == {cpus[0]}


@needs_affinity
@pytest.mark.parametrize(("runners", "cpus"), [(1, 2), (4, 64), (1, 1), (3, 1)])
def test_runners_are_left_alone_where_there_are_cpus_to_spare(sleeper, monkeypatch, runners, cpus):
    """If this fails, the runs of a large machine crowd on its first CPUs."""
    before = os.sched_getaffinity(sleeper.pid)
    monkeypatch.setattr(machine, "available_cpus", lambda: list(range(cpus)))
    machine.pin_to_cpu(sleeper.pid, 0, runners)
    assert os.sched_getaffinity(sleeper.pid) == before


@needs_affinity
def test_a_runner_that_is_gone_is_no_error():
    """If this fails, a runner that dies at its start ends the run with a traceback."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    machine.pin_to_cpu(process.pid, 0, 10**6)
