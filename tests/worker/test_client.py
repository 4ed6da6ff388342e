"""An implementation in its own process: whatever it does, the harness gets an answer or a named error, and goes on."""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pcbench import Network
from pcbench.errors import (
    AdapterError,
    ContractError,
    ManifestError,
    MissingLibraryError,
    UsageError,
    WorkerCrashError,
    WorkerTimeoutError,
)
from pcbench.protocol.implementation import Inference, methods_of
from pcbench.worker import process as processes
from pcbench.worker.client import InProcess, WorkerClient
from pcbench.worker.limits import Limits

FAULTS = str(Path(__file__).parent / "faults" / "misbehaving.py")
INPUT = np.arange(6.0).reshape(2, 3)


def network(value: float = 1.0) -> Network:
    weights = (np.full((3, 3), value), np.full((3, 3), value))
    return Network(weights=weights, scalings=(1.0, 1.0), skips=(0.0, 0.0))


def fault(name: str, call_seconds: float = 60.0, **options) -> WorkerClient:
    return WorkerClient(f"{FAULTS}:{name}", limits=Limits(call_seconds=call_seconds), **options)


def answers(client: WorkerClient) -> bool:
    """Whether the client gives the right answer to another question."""
    return client.energy(network(), INPUT, INPUT, [INPUT]) == 7.0


def has_ended(pid: int) -> bool:
    """Whether a process has ended, a zombie that its new parent has not yet waited for included."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


CRASHES = {
    "Exits": (WorkerCrashError, r"ended with exit status 3 during predict"),
    "Segfaults": (WorkerCrashError, r"killed by SIGSEGV during predict.*Segmentation fault"),
    "Killed": (WorkerCrashError, r"killed by SIGKILL \(out of memory\?"),
    "OutOfMemory": (WorkerCrashError, r"out of memory: predict raised MemoryError: needed 1 TiB"),
    "Hangs": (WorkerTimeoutError, r"no answer to predict within 0.5 s(?s:.*)in sleep_for_ever"),
    "TornAndGone": (WorkerCrashError, r"ended with exit status 5 during predict"),
    "TornAndSilent": (WorkerTimeoutError, r"no answer to predict within 0.5 s"),
    "WritesGarbage": (WorkerCrashError, r"bytes that are no frame: b'Segmentation fault, said"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_worker_that_ends_is_named_and_replaced(name):
    """If this fails, a crash ends the run, hides its cause, or leaves a client that cannot go on."""
    kind, message = CRASHES[name]
    with fault(name, call_seconds=0.5 if "0.5" in message or "no frame" in message else 30.0) as client:
        with pytest.raises(kind, match=message):
            client.predict(network(), INPUT)
        assert answers(client)
        assert client.starts == 2


COMPLAINTS = {
    "Raises": (AdapterError, r"predict raised ValueError: a shape I dislike"),
    "Leaves": (AdapterError, r"predict raised SystemExit: leaving"),
    "ReturnsObject": (ContractError, r"the answer\['output'\]\[1\] is a builtins.object: needed"),
    "ReturnsObjects": (ContractError, r"the answer has dtype object, shape \(2,\)"),
}


@pytest.mark.parametrize("name", COMPLAINTS)
@pytest.mark.parametrize("open_client", [fault, lambda name: InProcess(f"{FAULTS}:{name}")], ids=["worker", "inside"])
def test_an_exception_or_a_wrong_type_costs_one_call(name, open_client):
    """If this fails, an exception restarts the worker for nothing, or the two roads report it differently."""
    kind, message = COMPLAINTS[name]
    with open_client(name) as client:
        with pytest.raises(kind, match=message):
            client.predict(network(), INPUT)
        assert answers(client)
        assert getattr(client, "starts", 1) == 1


def test_the_remote_traceback_is_kept():
    """If this fails, the author of an adapter is told what was raised but not where."""
    with fault("Raises") as client, pytest.raises(AdapterError) as caught:
        client.predict(network(), INPUT)
    assert "misbehaving.py" in caught.value.traceback
    assert "a shape I dislike" in caught.value.traceback


def test_numbers_pass_as_they_are():
    """If this fails, the wire hides NaN, infinities, wrong shapes or wrong dtypes from the laws that look for them."""
    with fault("NotFinite") as client:
        answer = client.predict(network(), INPUT)
        assert answer.shape == INPUT.shape
        assert np.isnan(answer).all()
        assert client.energy(network(), INPUT, INPUT, []) == float("inf")
    with fault("WrongShape") as client:
        answer = client.predict(network(), INPUT)
        assert (answer.shape, answer.dtype) == ((3, 0, 2), np.dtype("float16"))
        assert answers(client)


def test_thirty_megabytes_of_noise_neither_block_nor_fill_memory():
    """If this fails, an implementation that prints blocks for ever, corrupts a frame or eats the harness's memory."""
    with fault("Noisy") as client:
        tracemalloc.start()
        np.testing.assert_array_equal(client.predict(network(), INPUT), 2 * INPUT)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 4e6
        assert answers(client)
    assert 0 < len(client.stderr_tail) <= 1 << 16
    assert set(client.stderr_tail[-1000:]) <= set("xyz\n")


@pytest.mark.parametrize("open_client", [fault, lambda name: InProcess(f"{FAULTS}:{name}")], ids=["worker", "inside"])
def test_overwritten_inputs_are_named_and_do_no_harm(open_client):
    """If this fails, an implementation that works in place spoils the harness's arrays or its own next answer."""
    given, net, acts = INPUT.copy(), network(), [np.zeros((2, 3)), np.ones((2, 3))]
    with open_client("Overwrites") as client:
        np.testing.assert_array_equal(client.predict(net, given), INPUT)
        assert client.last_meta["inputs_modified"] == ["input"]
        np.testing.assert_array_equal(given, INPUT)
        for _ in range(2):  # a spoilt network must not be used again: the sum of the weights stays 18
            assert client.energy(net, given, given, acts) == 18.0
            assert set(client.last_meta["inputs_modified"]) == {"network.weights[1]", "activities[1]"}
        assert net.weights[1][0, 0] == 1.0
        assert acts[1][0, 0] == 1.0
        client.infer(net, given, given, 1, 0.1)
        assert client.last_meta["inputs_modified"] == []


@pytest.mark.parametrize("open_client", [fault, lambda name: InProcess(f"{FAULTS}:{name}")], ids=["worker", "inside"])
def test_a_network_changed_by_its_owner_is_sent_again(open_client):
    """If this fails, a law that perturbs weights in place is answered for the weights of before."""
    net = network()
    with open_client("SumsWeights") as client:
        assert client.energy(net, INPUT, INPUT, []) == 18.0
        net.weights[0][0, 0] += 1.0
        assert client.energy(net, INPUT, INPUT, []) == 19.0


@pytest.mark.parametrize("open_client", [fault, lambda name: InProcess(f"{FAULTS}:{name}")], ids=["worker", "inside"])
def test_many_networks_in_any_order_get_their_own_answers(open_client):
    """If this fails, a number on the wire points to a network that was dropped or replaced."""
    networks = [network(float(k)) for k in range(12)]
    order = np.random.default_rng(0).integers(0, 12, 100)
    with open_client("SumsWeights") as client:
        for k in order:
            assert client.energy(networks[k], INPUT, INPUT, []) == 18.0 * k
        for k in range(20):  # objects that die make room for others at the same address, here with equal weights
            scaled = replace(networks[1], scalings=(float(k), 0.0))
            assert client.energy(scaled, INPUT, INPUT, []) == 9.0 * k
            del scaled


def test_both_roads_give_the_same_answers_and_offer_the_same_methods():
    """If this fails, an implementation is judged differently in its own process than in this one."""
    with fault("Optional") as outside, InProcess(f"{FAULTS}:Optional") as inside:
        assert outside.manifest == inside.manifest
        assert outside.methods == inside.methods == methods_of(outside) == ("layer_energies", "compilations")
        for client in (outside, inside):
            assert client.compilations() == 11
            first, second = client.layer_energies(network(), INPUT, INPUT, [])
            assert (type(first), first) == (np.float32, 1.5)
            assert second.shape == ()
            inference = client.infer(network(), INPUT, INPUT, 3, 0.5)
            assert isinstance(inference, Inference)
            assert inference.energy == 1.5
            assert client.last_meta["seconds"] >= 0
            with pytest.raises(AttributeError, match="equilibrium"):
                client.equilibrium(network(), INPUT, INPUT)
            with pytest.raises(UsageError, match="offers no 'equilibrium'"):
                client.call("equilibrium", network(), INPUT, INPUT)
            with pytest.raises(UsageError, match="methods are predict, energy"):
                client.call("predictt", network(), INPUT)


@pytest.mark.parametrize("open_client", [fault, lambda name: InProcess(f"{FAULTS}:{name}")], ids=["worker", "inside"])
def test_infer_must_return_an_inference(open_client):
    """If this fails, a tuple travels upwards until an attribute of it is missed."""
    with open_client("ReturnsTuple") as client, pytest.raises(ContractError, match=r"needed a pcbench\.Inference"):
        client.infer(network(), INPUT, INPUT, 1, 0.1)


def test_arguments_that_cannot_be_sent_are_refused_at_once():
    """If this fails, a mistake of the harness looks like a crash of the implementation."""
    with fault("Good") as client:
        with pytest.raises(UsageError, match=r"predict was given a value of type builtins\.object"):
            client.call("predict", network(), object())
        assert answers(client)


def test_large_arrays_pass_both_ways():
    """If this fails, both sides write at once into full pipes, or parts of writes are lost."""
    big = np.random.default_rng(0).normal(size=(1000, 2000))[:, ::-1]
    with fault("Good") as client:
        np.testing.assert_array_equal(client.predict(network(), big), 2 * big)


BAD_SPECS = {
    "no such file": ("nowhere/adapter.py", UsageError, "no such file"),
    "no such module": ("no_such_package.adapter:thing", UsageError, "no module 'no_such_package'"),
    "no such attribute": (f"{FAULTS}:Missing", UsageError, "no attribute 'Missing'; it has .*Good"),
    "no implementation": (f"{FAULTS}:nothing", UsageError, "without predict, energy, infer"),
    "no manifest": (f"{FAULTS}:no_manifest", ManifestError, r"is a dict, needed a pcbench\.Manifest"),
    "no library": (f"{FAULTS}:missing_library", MissingLibraryError, "pip install frobnicate"),
    "no name": ("", UsageError, r"needed package\.module"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
@pytest.mark.parametrize("open_client", [WorkerClient, InProcess])
def test_a_spec_that_cannot_be_loaded_says_why(name, open_client):
    """If this fails, a typing mistake on the command line becomes a traceback or a crash."""
    spec, kind, message = BAD_SPECS[name]
    with pytest.raises(kind, match=message):
        open_client(spec)


@pytest.mark.parametrize("open_client", [WorkerClient, InProcess])
def test_files_that_fail_on_import_say_how(open_client, tmp_path):
    """If this fails, a missing library is reported as a broken adapter, or the reverse."""
    lacking, broken = tmp_path / "lacking.py", tmp_path / "broken.py"
    lacking.write_text("import frobnicate\n")
    broken.write_text("1 / 0\n")
    with pytest.raises(MissingLibraryError, match=r"needs the module 'frobnicate', which .* lacks"):
        open_client(str(lacking))
    with pytest.raises(AdapterError, match="raised ZeroDivisionError"):
        open_client(str(broken))


def test_an_adapter_is_loaded_as_it_is_now(tmp_path, monkeypatch):
    """If this fails, what was saved in the same second as the version before it is judged as that version."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    adapter = tmp_path / "adapter.py"
    for name in ("first", "other"):
        adapter.write_text(Path(FAULTS).read_text().replace('name="good"', f'name="{name}"'))
        os.utime(adapter, (1e9, 1e9))
        assert InProcess(f"{adapter}:Good").manifest.name == name


def test_the_attribute_may_be_a_class_a_factory_or_an_instance(tmp_path, monkeypatch):
    """If this fails, one of the documented ways to name an implementation does not work."""
    for spec in (FAULTS, f"{FAULTS}:Good", f"{FAULTS}:instance"):
        assert InProcess(spec).manifest.name == "good"
    (tmp_path / "some_package_of_mine.py").write_text(Path(FAULTS).read_text())
    monkeypatch.chdir(tmp_path)
    with WorkerClient("some_package_of_mine:instance") as client:  # the current directory is importable
        assert answers(client)


def test_a_worker_that_does_not_start_is_named():
    """If this fails, an import that hangs or dies blocks the run."""
    with pytest.raises(WorkerTimeoutError, match="no answer to the start of"):
        fault("slow_start", start_timeout=0.5)
    with pytest.raises(WorkerCrashError, match="exit status 4 during the start of"):
        fault("dies_at_start")


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_interpreters_that_cannot_work_are_refused_with_a_remedy(tmp_path):
    """If this fails, a wrong --python ends in a traceback that does not say what to do."""
    plain_file = tmp_path / "python"
    plain_file.write_text("")
    bare = script(tmp_path / "bare", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    old = script(
        tmp_path / "old",
        f"#!{sys.executable}\nimport sys\nsys.version_info, code = (3, 9, 18, 'final', 0), sys.argv[2]\n"
        "sys.argv[1:] = sys.argv[3:]\nexec(code)\n",
    )
    not_python = script(tmp_path / "shell", "#!/bin/sh\necho not a Python >&2\nexit 7\n")
    unreadable = script(tmp_path / "binary", "\0\1\2")
    for python, kind, message in (
        (str(tmp_path / "none"), UsageError, "does not exist: give the path of a Python"),
        ("no-such-python-anywhere", UsageError, "does not exist"),
        (str(tmp_path), UsageError, "is a directory"),
        (str(plain_file), UsageError, "is not executable"),
        (unreadable, UsageError, "does not start"),
        (bare, UsageError, "cannot import NumPy .*-m pip install numpy"),
        (old, UsageError, r"is Python 3\.9\.18: needed 3\.10 or later"),
        (not_python, WorkerCrashError, "exit status 7 .*not a Python"),
    ):
        with pytest.raises(kind, match=message):
            fault("Good", python=python)


def test_the_environment_of_the_harness_stays_outside(tmp_path, monkeypatch):
    """If this fails, a foreign interpreter imports the harness's libraries, or reads frames from standard input."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    with fault("LooksRound", python=sys.executable, env={"PCBENCH_TEST": "1"}) as client:
        seen = client.predict(network(), INPUT)
    assert seen["pythonpath"] == ""
    assert str(tmp_path) not in seen["path"]
    assert seen["threads"] == "1"
    assert seen["stdin"] == ""
    heavy = {"jax", "hypothesis", "pytest", "click", "rich", "pcbench.worker.client", "pcbench.oracle.mlp"}
    assert not heavy & set(seen["modules"])
    assert processes.resolve_interpreter(str(link)) == str(link)  # resolved, it would leave its virtual environment


def test_a_virtual_environment_and_no_other_is_used(tmp_path):
    """If this fails, pcbench's own site-packages are on the path of the interpreter under test."""
    bare = script(tmp_path / "bare", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    numpy_alone = tmp_path / "libraries"
    numpy_alone.mkdir()
    root = Path(np.__file__).parent.parent
    for entry in [*root.glob("numpy"), *root.glob("numpy.libs")]:
        (numpy_alone / entry.name).symlink_to(entry)
    with fault("LooksRound", python=bare, env={"PYTHONPATH": str(numpy_alone)}) as client:
        seen = client.predict(network(), INPUT)
    assert str(root) not in seen["path"]
    assert "pcbench.worker.serve" in seen["modules"]


def test_closing_ends_the_worker_and_its_children():
    """If this fails, a hanging implementation leaves processes behind that eat the machine."""
    client = fault("HangsWithChild", call_seconds=0.5)
    pid = client.info["pid"]
    with pytest.raises(WorkerTimeoutError):
        client.predict(network(), INPUT)
    child = int(client.stderr_tail.partition("child=")[2].split()[0])
    assert has_ended(pid)
    assert has_ended(child)
    assert answers(client)  # starts another
    second = client.info["pid"]
    client.close()
    assert has_ended(second)
    third = fault("Good")
    pid = third.info["pid"]
    del third  # without close
    gc.collect()
    assert has_ended(pid)


def test_a_worker_outlives_no_harness():
    """If this fails, a harness that is killed leaves a worker that computes for ever."""
    code = (
        "import os, sys\nfrom pcbench.worker.client import WorkerClient\n"
        f"c = WorkerClient({FAULTS + ':Hangs'!r})\nprint(c.info['pid'], flush=True)\n"
        "import threading, numpy as np\nfrom pcbench import Network\n"
        "n = Network(weights=(np.ones((2, 2)),) * 2, scalings=(1., 1.), skips=(0., 0.))\n"
        "threading.Thread(target=c.predict, args=(n, np.ones((1, 2))), daemon=True).start()\n"
        "import time; time.sleep(0.3); os.kill(os.getpid(), 9)\n"
    )
    read, write = os.pipe()
    harness = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)],
    )
    os.close(write)
    with os.fdopen(read) as lines:
        pid = int(lines.readline())
    os.waitpid(harness, 0)
    assert has_ended(pid)
