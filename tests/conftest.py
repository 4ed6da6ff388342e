"""What the tests share: one profile for Hypothesis, and an implementation made into a subject."""

import os
import signal

import pytest
from hypothesis import settings

from pcbench.adapters.numpy import NumpyPCN
from pcbench.timing.machine import available_cpus
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject

# The same examples in every run: a test that fails today must not have passed by luck yesterday.
settings.register_profile("tests", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("tests")


# The processes that tests start would each compile the package from its source; git ignores what they leave behind.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)  # of xdist, without which tests run too
def pytest_xdist_auto_num_workers(config):
    """One process for every CPU, and none but this one for tests that are named: they are few, and starting takes time.

    xdist itself would count cores instead of CPUs as soon as psutil is there, which `distributed` brings.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # xdist reads it
    if any("::" in name for name in config.args):
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the CPUs already
    return len(available_cpus())


@pytest.fixture(autouse=True)
def no_environments(monkeypatch, tmp_path_factory):
    """Environments that somebody has made on this machine must not decide what the tests find; the empty folder."""
    place = tmp_path_factory.getbasetemp() / "no-environments"
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(place))
    return place


@pytest.fixture
def subject_of():
    """Makes a subject of an implementation given as an object, by default the plain NumPy one."""

    def make(implementation=None, respawn=None):
        return Subject(InProcess(NumpyPCN() if implementation is None else implementation), respawn)

    return make


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts background commands so, and children inherit it: no test could press Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
