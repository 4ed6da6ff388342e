"""Runs with a stand-in for laws and Hypothesis (`fake_engine`) and the real processes around them."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pcbench.conformance import journal as journal_module
from pcbench.conformance import run as runner
from pcbench.conformance.journal import Journal
from pcbench.conformance.plan import make_plan
from pcbench.conformance.progress import Progress
from pcbench.errors import ImplementationError, MissingLibraryError, UsageError
from pcbench.laws import law_set_hash
from pcbench.laws.definition import REGISTRY
from pcbench.report import known_failures
from pcbench.report.evidence import Evidence
from pcbench.report.known_failures import KnownFailure
from pcbench.report.report import Report
from tests.conformance import fake_engine

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """The laws of `fake_engine` here and in every process started from here; returns how to give it orders."""
    saved = dict(REGISTRY)
    fake_engine.register()
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv("FAKE_ENGINE_CHILD", "1")
    yield lambda **orders: monkeypatch.setenv("FAKE_ENGINE", json.dumps(orders))
    REGISTRY.clear()
    REGISTRY.update(saved)


def run_fake(tmp_path, **changes):
    options = {"profile": "smoke", "seed": 3, "engine": fake_engine.__name__, "journal_dir": tmp_path / "j", **changes}
    return runner.check(options.pop("spec", fake_engine.SPEC), **options)


def outcomes(report):
    return {v.law: v.outcome for v in report.verdicts}


def strip_dates(report):
    """Without what may differ between two runs of the same command."""
    header = dataclasses.replace(report.header, seconds=0.0, started="", workers=0)
    return dataclasses.replace(report, header=header)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Watching(Progress):
    """Keeps notes, and does something when a number of judgements has been made."""

    def __init__(self, at=None, action=None):
        super().__init__()
        self.notes, self.verdicts, self.at, self.action = [], [], at, action

    def note(self, text):
        self.notes.append(text)

    def verdict(self, verdict):
        self.verdicts.append(verdict)

    def advance(self, judgements):
        if judgements == self.at and self.action is not None:
            self.action()


# ---- results --------------------------------------------------------------------------------------------------------


def test_the_number_of_workers_changes_nothing(tmp_path, fake):
    """Breaks if a verdict, a margin or a worst problem depends on scheduling."""
    fake(fail=["fake.other"])
    one, two = run_fake(tmp_path, workers=1), run_fake(tmp_path, workers=2)
    assert strip_dates(one) == strip_dates(two)
    assert outcomes(one) == {
        "fake.root": "pass",
        "fake.leaf": "pass",
        "fake.other": "fail",
        "fake.residual-free": "not-applicable",
        "fake.last": "blocked",
    }
    assert one.verdicts[2].failure is not None
    assert one.verdicts[2].failure.margin == math.inf
    assert one.verdicts[2].failure.details == {"layer": 1, "gap": 0.5, "near": True, "norms": [1.0, 1.0]}
    assert Report.loads(one.dumps()) == one
    assert one.verdicts[0].examples == 16
    assert one.verdicts[0].shapes == 3


def test_each_law_is_told_once_and_as_it_ends_up_in_the_report(tmp_path, fake):
    """Breaks if progress shows a verdict that the report then contradicts, such as a failure that becomes blocked."""
    fake(fail=["fake.root", "fake.leaf"], print=True)
    watching = Watching()
    report = run_fake(tmp_path, progress=watching)
    assert {v.law: v for v in watching.verdicts} == {v.law: v for v in report.verdicts}
    assert len(watching.verdicts) == 5


def test_only_the_laws_asked_for_are_judged_and_dependencies_outside_do_not_block(tmp_path, fake):
    """Breaks if --laws judges other laws, or blocks by a law that was not judged."""
    fake(fail=["fake.root"])
    assert outcomes(run_fake(tmp_path, laws=["fake.leaf"])) == {"fake.leaf": "pass"}


# ---- runners that fail ----------------------------------------------------------------------------------------------


def test_a_runner_that_dies_costs_one_judgement(tmp_path, fake):
    """Breaks if a crash inside a runner ends the run, is lost, or is blamed on another law."""
    fake(crash=["fake.other"])
    report = run_fake(tmp_path, workers=1)
    assert outcomes(report)["fake.root"] == outcomes(report)["fake.leaf"] == "pass"
    assert outcomes(report)["fake.other"] == "error"
    assert "SIGKILL" in report.verdicts[2].message
    assert outcomes(report)["fake.last"] == "blocked"
    assert report.exit_code == 3


def test_a_runner_that_hangs_is_replaced(tmp_path, fake):
    """Breaks if an endless loop in a law or an in-process implementation hangs the whole run."""
    fake(hang=["fake.leaf"])
    report = run_fake(tmp_path, workers=2, timeout=1.0, hang_seconds=1.0)
    assert outcomes(report)["fake.leaf"] == "timeout"
    assert outcomes(report)["fake.other"] == outcomes(report)["fake.last"] == "pass"


def test_a_bug_in_a_law_is_an_error_of_that_law(tmp_path, fake):
    """Breaks if an exception of pcbench's own ends the run or passes for a failure of the implementation."""
    fake(**{"raise": ["fake.root"]})
    report = run_fake(tmp_path)
    assert outcomes(report)["fake.root"] == "error"
    assert "pcbench itself failed" in report.verdicts[0].message
    assert "ZeroDivisionError" in report.verdicts[0].stderr


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("import no_such_library", MissingLibraryError, "no_such_library"),
        ("import os; os._exit(7)", ImplementationError, "7"),
        ("implementation = 3", UsageError, "predict"),
    ],
)
def test_an_implementation_that_cannot_start_is_refused(tmp_path, source, error, says):
    """Breaks if a run with nothing to judge gives a report instead of the reason."""
    path = tmp_path / "adapter.py"
    path.write_text(source)
    with pytest.raises(error, match=says):
        run_fake(tmp_path, spec=f"{path}:implementation")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed"),
        ({"workers": 0}, "workers 0"),
        ({"timeout": 0.0}, "timeout 0"),
        ({"profile": "smok"}, "smok"),
        ({"laws": ["fake.rot"]}, "fake.root"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(tmp_path, changes, says):
    """Breaks if a bad number or name is accepted, or the message does not name it."""
    with pytest.raises(UsageError, match=says):
        run_fake(tmp_path, **changes)
    assert not (tmp_path / "j").exists()


# ---- the journal ----------------------------------------------------------------------------------------------------


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_gives_a_partial_report_and_the_next_run_resumes(tmp_path, fake):
    """Breaks if an interrupted run loses its judgements, passes for complete, or is judged again from the start."""
    fake(slow=0.02, fail=["fake.root"])
    partial = run_fake(tmp_path, workers=1, seed=None, progress=Watching(3, interrupt))
    assert partial.header.partial == "interrupted"
    assert partial.exit_code == 130
    assert "not-run" in outcomes(partial).values()
    assert sum(partial.counts().values()) == 5
    watching = Watching()
    report = run_fake(tmp_path, workers=2, seed=None, progress=watching)
    assert any(note.startswith("resuming: 3 of 10 judgements are in the journal") for note in watching.notes)
    assert report.header.seed == partial.header.seed, "without --seed an unfinished run is continued with its own"
    assert strip_dates(report) == strip_dates(run_fake(tmp_path, workers=1, seed=report.header.seed))
    assert not (tmp_path / "j").exists(), "a run that is complete leaves nothing behind"


def test_fresh_and_other_settings_do_not_resume(tmp_path, fake):
    """Breaks if evidence of another seed or other laws is taken for this run's."""
    fake(slow=0.02)
    run_fake(tmp_path, workers=1, progress=Watching(3, interrupt))
    for changes in ({"seed": 4}, {"laws": ["fake.root", "fake.other"]}, {"fresh": True}):
        watching = Watching()
        run_fake(tmp_path, progress=watching, **changes)
        assert not watching.notes


def test_a_run_that_was_killed_resumes_and_leaves_no_process_behind(tmp_path, fake):
    """Breaks if kill -9 loses judgements that were made, or leaves runners or workers running."""
    fake(slow=0.3)
    adapter = tmp_path / "adapter.py"
    pids = tmp_path / "pids"
    adapter.write_text(
        "import os\n"
        "from pcbench.adapters.numpy import implementation\n"
        f"for pid in (os.getpid(), os.getppid()): open({str(pids)!r}, 'a').write(f'{{pid}}\\n')\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pcbench.conformance import run as runner\n"
        "from tests.conformance import fake_engine; fake_engine.register()\n"
        "settings = dict(profile='smoke', seed=3, workers=1, engine=fake_engine.__name__)\n"
        "runner.check(sys.argv[2], **settings, journal_dir=sys.argv[3])\n"
    )
    arguments = [sys.executable, "-c", script, ROOT, str(adapter), str(tmp_path / "j")]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)

    def lines():
        return sum(len(p.read_text().splitlines()) for p in (tmp_path / "j").glob("*.jsonl"))

    wait_for(lambda: (tmp_path / "j").exists() and lines() >= 3)
    process.kill()
    process.wait()
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    wait_for(lambda: not any(alive(pid) for pid in started))
    fake(slow=0.0)
    watching = Watching()
    report = run_fake(tmp_path, spec=str(adapter), workers=2, progress=watching)
    assert [note for note in watching.notes if "of 10 judgements are in the journal" in note]
    assert report.exit_code == 0


def test_a_torn_line_is_ignored(tmp_path):
    """Breaks if a journal cut in the middle of a line is refused, or half a judgement is believed."""
    journal = Journal(tmp_path, "k")
    first, second = (Evidence(law="a", group=g, outcome="pass") for g in (0, 1))
    journal.begin({"seed": 5}, [first])
    journal.add(second)
    journal.close()
    whole = journal.path.read_bytes()
    assert Journal(tmp_path, "k").load() == ({"seed": 5}, [first, second])
    for cut in (1, 40):
        journal.path.write_bytes(whole[:-cut] if cut > 1 else whole[:-2])
        assert Journal(tmp_path, "k").load() == ({"seed": 5}, [first])
    journal.path.write_bytes(whole + b'{"other": 1}\n5\n')  # whole lines that are no evidence
    assert Journal(tmp_path, "k").load() == ({"seed": 5}, [first, second])
    journal.path.write_bytes(b"\xff\xfe garbage")
    assert Journal(tmp_path, "k").load() == ({}, [])


def test_a_journal_that_cannot_be_written_does_not_stop_the_run(tmp_path, fake):
    """Breaks if a read-only directory makes pcbench useless."""
    fake()
    (tmp_path / "file").write_text("")
    watching = Watching()
    assert run_fake(tmp_path, journal_dir=tmp_path / "file" / "j", progress=watching).exit_code == 0
    assert any("no journal" in note for note in watching.notes)


def test_the_key_changes_with_the_adapter_and_with_every_setting(tmp_path):
    """Breaks if evidence about other code, or from other settings, can be taken for this run's."""
    path = tmp_path / "adapter.py"
    path.write_text("x = 1")
    settings = {"seed": 1, "profile": "smoke"}
    keys = [journal_module.key(str(path), settings), journal_module.key(str(path), {**settings, "seed": 2})]
    path.write_text("x = 2")
    keys.append(journal_module.key(str(path), settings))
    assert len(set(keys)) == 3
    path.write_text("x = 1")
    assert journal_module.key(str(path), settings) == keys[0]


def test_a_new_version_of_the_library_starts_anew(tmp_path, fake):
    """Breaks if judgements on one version of a library are reported for another."""
    fake(slow=0.02)
    adapter = tmp_path / "adapter.py"
    adapter.write_text(
        "import dataclasses, os\nfrom pcbench.adapters import numpy\nimplementation = numpy.implementation()\n"
        "implementation.manifest = dataclasses.replace(implementation.manifest, version=os.environ['FAKE_VERSION'])\n"
    )
    watching = Watching()
    os.environ["FAKE_VERSION"] = "1"
    try:
        run_fake(tmp_path, spec=str(adapter), workers=1, progress=Watching(3, interrupt))
        os.environ["FAKE_VERSION"] = "2"
        report = run_fake(tmp_path, spec=str(adapter), progress=watching)
    finally:
        del os.environ["FAKE_VERSION"]
    assert report.header.manifest["version"] == "2"
    assert not watching.notes


# ---- interrupts -----------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_no_process_behind_even_in_a_call_that_hangs(tmp_path, fake):
    """Breaks if Ctrl-C during a long call leaves the worker computing."""
    fake(hang=["fake.root"])
    pids = tmp_path / "pids"
    adapter = tmp_path / "adapter.py"
    adapter.write_text(
        "import os\nfrom pcbench.adapters.numpy import implementation\n"
        f"for pid in (os.getpid(), os.getppid()): open({str(pids)!r}, 'a').write(f'{{pid}}\\n')\n"
    )

    class WhenRunning(Progress):
        def show_law(self, runner, law, group):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    report = run_fake(tmp_path, spec=str(adapter), workers=1, progress=WhenRunning())
    assert report.header.partial == "interrupted"
    assert set(outcomes(report).values()) == {"not-run"}
    started = [int(pid) for pid in pids.read_text().split()]
    assert started
    wait_for(lambda: not any(alive(pid) for pid in started))


def test_a_runner_hears_of_the_end_while_it_collects_garbage(fake):
    """Breaks if every Ctrl-C takes seconds: Python drops an interruption in a callback of the garbage collector."""
    fake(**{"hang-collecting": ["fake.root"]})
    # It has longer than this test to end by force, so that what ends it is the interruption.
    script = "import sys; from pcbench.conformance import runner; runner._GRACE = 600.0; sys.exit(runner.main())"
    settings = {"profile": "smoke", "seed": 3, "laws": "fake.root", "in_process": True}
    plan = make_plan("numpy", **settings, engine=fake_engine.__name__)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (plan.to_json(), {"group": 0, "done": {}}):
            process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()
        events = map(json.loads, process.stdout)
        assert next(event for event in events if event["event"] == "law")["law"] == "fake.root"
        time.sleep(0.3)  # until it collects
        process.stdin.close()
        try:
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()


# ---- known failures -------------------------------------------------------------------------------------------------


def test_the_problem_of_a_known_failure_is_judged(tmp_path, fake):
    """Breaks if a failure that the drawn problems do not show is reported as gone although its own problem shows it."""
    fake(**{"fail-where-shown": ["fake.other", "fake.last"]})
    for problem, outcome in (("", "unexpected-pass"), (fake_engine.PROBLEM, "expected-failure")):
        report = run_fake(tmp_path, known_failures=[KnownFailure(law="fake.other", reason="r", problem=problem)])
        assert {v.law: v.outcome for v in report.verdicts}["fake.other"] == outcome


def test_the_problem_of_a_known_failure_must_be_one_that_can_be_judged(tmp_path, fake):
    """Breaks if an entry whose problem says nothing about the law excuses a failure of the law."""
    fake(fail=["fake.other"])
    entry = KnownFailure(
        law="fake.other", reason="r", problem="kind=cnn,width=2,blocks=1,batch=1,side=4,channels=1,stages=1,classes=2"
    )
    with pytest.raises(UsageError, match=r"cannot be judged here .*'cnn' is not claimed"):
        run_fake(tmp_path, known_failures=[entry])


def test_known_failures_are_expected_and_their_absence_is_not(tmp_path, fake):
    """Breaks if a known failure fails the run, or a fixed one is not noticed."""
    fake(fail=["fake.other"])
    entries = [KnownFailure(law="fake.other", reason="r", link="l"), KnownFailure(law="fake.last", reason="r")]
    report = run_fake(tmp_path, known_failures=entries)
    assert outcomes(report)["fake.other"] == "expected-failure"
    assert "known: r (l)" in report.verdicts[2].message
    assert outcomes(report)["fake.last"] == "blocked"
    assert report.exit_code == 0, "the blocked law is listed too, so that everything is accounted for"
    assert run_fake(tmp_path, known_failures=entries[:1]).exit_code == 3, (
        "a law that was not judged and is not listed is never green"
    )
    fake()
    fixed = run_fake(tmp_path, known_failures=entries)
    assert outcomes(fixed)["fake.other"] == "unexpected-pass"
    assert fixed.exit_code == 1


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"law": "fake.rot", "reason": "r"}, "did you mean 'fake.root'"),
        ({"law": "fake.root"}, "'reason' is missing"),
        ({"law": "fake.root", "reason": " "}, "'reason' is missing"),
        ({"law": "fake.root", "reason": "r", "lnk": "x"}, "'lnk' does not exist"),
        ({"law": "fake.root", "reason": "r", "versions": "0.6"}, "needed a range"),
        ({"law": "fake.root", "reason": "r", "versions": 6}, "needed text"),
        ({"law": "fake.root", "reason": "r", "problem": "Q=3"}, "Q=3"),
        ("fake.root", "needed an object"),
    ],
)
def test_entries_that_are_not_understood_are_refused_by_number(tmp_path, entry, says):
    """Breaks if a misspelt entry is ignored, which would hide that it does nothing."""
    path = tmp_path / "known.json"
    path.write_text(json.dumps({"known_failures": [{"law": "fake.other", "reason": "r"}, entry]}))
    with pytest.raises(UsageError, match=says) as caught:
        known_failures.read(path, list(REGISTRY))
    assert "entry 2" in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "version", "says"),
    [
        (">=0.6,<0.7", "0.7.1", "does not cover"),
        (">=0.6,<0.7", "unreleased", "cannot be compared"),
        (">=0.6,<0.7", "0.6.3", None),
        (">=0.6", "0.7.0rc1", None),
        ("*", "unreleased", None),
    ],
)
def test_entries_for_other_versions_are_refused(versions, version, says):
    """Breaks if an entry outlives the version it was written for."""
    entries = [KnownFailure(law="fake.root", reason="r", versions=versions)]
    if says is None:
        known_failures.check_current(entries, "lib", version, {})
        return
    with pytest.raises(UsageError, match=says):
        known_failures.check_current(entries, "lib", version, {})


def test_entries_for_laws_that_are_not_applicable_are_refused(tmp_path, fake):
    """Breaks if a stale entry stays in the file unnoticed."""
    fake()
    with pytest.raises(UsageError, match="needs time-travel"):
        run_fake(tmp_path, known_failures=[KnownFailure(law="fake.residual-free", reason="r")])


def test_the_law_set_hash_is_of_what_the_laws_say():
    """Breaks if two reports by different laws carry the same hash, or the same laws differ by order."""
    laws = list(REGISTRY.values())
    before = law_set_hash(laws)
    assert law_set_hash(laws[::-1]) == before
    assert law_set_hash([*laws[:-1], dataclasses.replace(laws[-1], statement="other")]) != before
    assert law_set_hash(laws[:-1]) != before


def test_ctrl_c_before_the_implementation_has_started_gives_a_report_too(tmp_path, fake):
    """Breaks if an impatient user of a slow library gets a traceback, or leaves a process behind."""
    pids = tmp_path / "pids"
    adapter = tmp_path / "adapter.py"
    adapter.write_text(f"import os, time\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)\n")
    watcher = threading.Thread(target=lambda: (wait_for(pids.exists), os.kill(os.getpid(), signal.SIGINT)))
    watcher.start()
    report = run_fake(tmp_path, spec=str(adapter), workers=1)
    watcher.join()
    assert report.exit_code == 130
    assert set(outcomes(report).values()) == {"not-run"}
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))
