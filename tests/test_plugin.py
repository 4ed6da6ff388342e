"""The pytest plugin, in sessions of its own: what it collects, how laws end as tests, and that it keeps out of it."""

import functools
import json
import os
import re
import subprocess
import sys
from typing import Any

import pcbench.properties
import pytest

from pcbench.conformance.plan import make_plan
from pcbench.conformance.session import Introduction, Session, build_report
from pcbench.laws.definition import REGISTRY
from pcbench.problem.mlp import Problem
from pcbench.report.evidence import Evidence

LAWS = "energy.never-negative,energy.matches-definition,precision.no-retrace-on-equal-shapes"
IDS = [id for id in REGISTRY if id in LAWS.split(",")]
SMOKE = ("--pcn-profile", "smoke", "--pcn-seed", "3", "--pcn-laws", LAWS, "-p", "no:cacheprovider")

TWICE = """
from pcbench.adapters.numpy import NumpyPCN
class Twice(NumpyPCN):
    def energy(self, *args): return 2 * super().energy(*args)
implementation = Twice()
"""


def pytest_in(directory, *args):
    """Runs pytest in a directory, and returns its exit code and output."""
    command = [sys.executable, "-m", "pytest", *args]
    # In a pipeline pytest repeats whole messages in its summary, and the options of the outer session are its own.
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def pcn(tmp_path):
    """Runs pytest in an empty directory, and returns its exit code and output."""
    return functools.partial(pytest_in, tmp_path)


def margins(output):
    """The lines of the summary: law, verdict and margin."""
    found = re.findall(
        r"^(\S+\.\S+) +(pass|fail|blocked|not-applicable|expected-failure)\b *(\S*)", output, re.MULTILINE
    )
    return [line for line in found if line[0] in REGISTRY]


def test_every_law_is_a_test_and_xdist_changes_nothing(pcn):
    """Breaks if `pytest --pcn` needs files, loses a law or its margin, or gives other results with several workers."""
    code, output = pcn("--pcn", "numpy", "-v", *SMOKE)
    assert code == 0, output
    for law in IDS:
        assert f"pcn::{law} " in output
    assert "2 passed, 1 skipped" in output
    assert "seed 3" in output
    assert [line[0] for line in margins(output)] == IDS
    code, spread = pcn("--pcn", "numpy", "-n", "2", *SMOKE)
    assert code == 0, spread
    assert "2 passed, 1 skipped" in spread
    assert margins(spread) == margins(output)


def test_a_broken_law_fails_readably_and_blocks_what_depends_on_it(pcn, tmp_path):
    """Breaks if a failure shows pcbench's traceback instead of the law, or one cause fails several tests."""
    (tmp_path / "twice.py").write_text(TWICE)
    code, output = pcn("--pcn", "twice.py", "-rs", *SMOKE)
    assert code == 1, output
    assert "fail: energy.matches-definition" in output
    assert REGISTRY["energy.matches-definition"].failing_means[:40] in " ".join(output.split())
    assert re.search(r"replay: pcbench replay energy\.matches-definition 'D=\S+' --impl twice\.py", output)
    assert "Traceback" not in output
    assert "session.py" not in output
    assert "needs compilations" in output


def test_known_failures_are_strict_expected_failures(pcn, tmp_path):
    """Breaks if a known failure is red, or a fixed one stays green."""
    (tmp_path / "twice.py").write_text(TWICE)
    (tmp_path / "known.json").write_text(json.dumps([{"law": "energy.matches-definition", "reason": "no 1/2"}]))
    arguments = ("--pcn-known-failures", "known.json", "-rx", *SMOKE)
    code, output = pcn("--pcn", "twice.py", *arguments)
    assert code == 0, output
    assert "1 xfailed" in output
    assert "known: no 1/2" in output
    assert ("energy.matches-definition", "expected-failure") in [line[:2] for line in margins(output)]
    code, output = pcn("--pcn", "numpy", *arguments)
    assert code == 1, output
    assert "unexpected-pass: energy.matches-definition" in output
    assert "the law holds now: remove its entry from the known failures (no 1/2)" in output


def test_laws_stand_beside_the_tests_of_a_project_and_can_be_chosen(pcn, tmp_path):
    """Breaks if --pcn hides a project's own tests, or -k and --pcn-only do not work."""
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    listing = pcn("--pcn", "numpy", "--collect-only", "-q", *SMOKE)[1].splitlines()
    assert [line for line in listing if "::" in line] == ["test_own.py::test_own", *(f"pcn::{i}" for i in IDS)]
    chosen = pcn("--pcn", "numpy", "--collect-only", "-q", "-k", "never", *SMOKE)[1].splitlines()
    assert [line for line in chosen if "::" in line] == ["pcn::energy.never-negative"]
    alone = pcn("--pcn", "numpy", "--collect-only", "-q", "--pcn-only", *SMOKE)[1].splitlines()
    assert [line for line in alone if "::" in line] == [f"pcn::{i}" for i in IDS]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--pcn", "nmpy"), "did you mean 'numpy'"),
        (("--pcn", ""), "not known"),
        (("--pcn", "missing.py"), "missing.py"),
        (("--pcn", "missing.py", "-n", "2"), "missing.py"),
        (("--pcn", "numpy", "--pcn-laws", "energy.never-negatve"), "energy.never-negative"),
        (("--pcn", "numpy", "--pcn-profile", "smok"), "smoke"),
        (("--pcn", "numpy", "--pcn-seed", "-1"), "-1"),
        (("--pcn", "numpy", "--pcn-known-failures", "missing.json"), "missing.json"),
    ],
)
def test_every_mistake_is_a_usage_error(pcn, args, says):
    """Breaks if a misspelt option passes, or is an internal error with a traceback."""
    code, output = pcn(*args)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert says in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


# ---- a test module that belongs to a library ------------------------------------------------------------------------

MODULE = """
from pcbench.plugin import Conformance

conforms = Conformance("twice.py", known_failures="known.json", profile="smoke", seed=3, laws={laws!r})

def test_own(): pass
"""


def write(folder, name, adapter=TWICE, known=()):
    """Writes an adapter, its known failures, and a test module of that name."""
    folder.mkdir(exist_ok=True)
    (folder / "twice.py").write_text(adapter)
    (folder / "known.json").write_text(known if isinstance(known, str) else json.dumps(list(known)))
    (folder / name).write_text(MODULE.format(laws=IDS))


@pytest.fixture
def library(tmp_path):
    """Writes a repository with an adapter and its test module in a folder."""
    return functools.partial(write, tmp_path / "tests", "test_own.py")


def test_a_module_with_a_conformance_has_the_laws_as_its_tests(pcn, library):
    """Breaks if a library's test suite finds its adapter from one directory only, or xdist changes its verdicts."""
    library()
    plain = ("-p", "no:cacheprovider", "-rs")
    code, output = pcn(*plain)
    assert code == 1, output
    assert "fail: energy.matches-definition" in output
    assert re.search(r"replay: pcbench replay energy\.matches-definition 'D=\S+' --impl tests/twice\.py", output)
    assert "profile smoke, seed 3" in output
    assert "1 failed, 2 passed, 1 skipped" in output
    assert "Traceback" not in output
    code, spread = pcn(*plain, "-n", "2")
    assert code == 1, spread
    assert margins(spread) == margins(output)
    assert len(margins(output)) == len(IDS)
    code, one = pcn(*plain, "tests/test_own.py::conforms::energy.never-negative", "--pcn-seed", "4")
    assert code == 0, one
    assert "1 passed" in one
    assert "seed 4" in one
    listing = pcn("--collect-only", "-q", "--pcn-laws", "energy.never-negative")[1].splitlines()
    assert [line for line in listing if "::" in line] == [
        "tests/test_own.py::conforms::energy.never-negative", "tests/test_own.py::test_own",
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_known_failures_of_a_module_are_expected_until_they_pass(pcn, library, workers):
    """Breaks if a listed law is red, or one that holds again is not told to be taken off the list."""
    entry = {"law": "energy.matches-definition", "reason": "no 1/2", "link": "https://example.org/1"}
    library(known=[entry])
    code, output = pcn("-q", "-p", "no:cacheprovider", "-rx", *workers)
    assert code == 0, output
    assert "known: no 1/2 (https://example.org/1)" in output
    assert "2 passed, 1 skipped, 1 xfailed" in output
    assert [line[0] for line in margins(output)] == ["energy.matches-definition"]  # -q leaves out what holds
    library(TWICE.replace("2 *", "1 *"), [entry])
    code, output = pcn("-q", "-p", "no:cacheprovider", *workers)
    assert code == 1, output
    assert "unexpected-pass: energy.matches-definition" in output
    assert output.count("the law holds now: remove its entry from the known failures (no 1/2)") == 2
    assert "1 failed, 2 passed, 1 skipped" in output


MISTAKES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"adapter": "import no_such_library\n" + TWICE}, "needs the module 'no_such_library'"),
    ({"adapter": "def f():\n    return 1 / 0\nf()\n"}, 'twice.py", line 2, in f'),
    ({"adapter": "def f(:\n"}, 'twice.py", line 1'),
    ({"known": [{"law": "energy.matches-defnition", "reason": "no 1/2"}]}, "mean 'energy.matches-definition'?"),
    ({"known": [{"law": "energy.matches-definition"}]}, "'reason' is missing"),
    ({"known": '[{"law": "energy.never-negative",}]'}, "known.json: not JSON"),
    ({"known": [{"law": IDS[-1], "reason": "slow"}]}, "not applicable here"),
)


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Runs a repository that has every mistake, in a folder each, once for every way to run it."""

    @functools.cache
    def run(workers):
        top = tmp_path_factory.mktemp("mistaken")
        for number, (written, _) in enumerate(MISTAKES):
            write(top / f"folder{number}", f"test_own{number}.py", **written)
        return pytest_in(top, "-q", "-p", "no:cacheprovider", *workers)

    return run


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
@pytest.mark.parametrize(("number", "says"), [(number, says) for number, (_, says) in enumerate(MISTAKES)])
def test_a_module_that_cannot_be_judged_is_one_error_that_says_why(mistaken, number, says, workers):
    """Breaks if a mistake in the adapter or in the list is told once for each law, or as a traceback of pcbench."""
    code, output = mistaken(workers)
    assert code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED), output
    assert output.count(says) == 1, output
    assert len(re.findall(rf"^ERROR folder{number}/test_own{number}\.py\b", output, re.MULTILINE)) == 1, output
    assert f"{len(MISTAKES)} errors" in output
    assert "pcbench/protocol/loading.py" not in output
    assert "INTERNALERROR" not in output


def test_without_pcn_the_plugin_does_nothing_and_loads_nothing(pcn, tmp_path):
    """Breaks if having pcbench installed slows down or changes pytest in projects that do not use it."""
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    heavy = {'jax', 'hypothesis', 'pcbench.laws', 'pcbench.worker.client', 'rich'} & set(sys.modules)\n"
        "    assert 'pcbench.plugin' in sys.modules and not heavy, heavy\n"
    )
    code, output = pcn("-p", "no:hypothesispytest", "-p", "no:jaxtyping", "--pcn-laws", "nonsense", "-q")
    assert code == 0, output
    assert "pcbench" not in output


def test_a_run_names_library_commit_and_environment():
    """Breaks if a failure in somebody's pipeline does not say which state of the library it was found in."""
    session = Session(make_plan("torch2pc", profile="smoke", seed=3))
    assert session.description == "torch2pc, profile smoke, seed 3"
    session.introduction = Introduction(
        manifest={"name": "torch", "library": "PRECO", "version": "1.2"},
        info={"commit": "0123456789abcdef", "environment": "torch"},
    )
    assert session.description == "torch (PRECO 1.2 at 0123456789), environment torch, profile smoke, seed 3"
    report = build_report(session.plan, session.introduction, [])
    assert report.header.commit == "0123456789abcdef"


def test_the_problem_of_a_known_failure_is_judged_first(tmp_path, monkeypatch):
    """Breaks if a failure that few problems show is reported as gone by pytest, though not by `pcbench check`."""
    file, line = tmp_path / "known.json", "D=2,N=3,L=3,K=1,B=2,seed=5"
    file.write_text(json.dumps([{"law": "energy.never-negative", "reason": "r", "problem": line}]))
    asked = {}

    def judge(law, subject, profile, seed, group, first):
        asked[law.id] = first and first.line()
        return Evidence(law=law.id, group=group, outcome="pass", examples=8)

    monkeypatch.setattr(pcbench.properties, "judge_group", judge)
    session = Session(make_plan("numpy", profile="smoke", seed=1, known_failures=str(file), laws=["energy"]))
    session.start()
    try:
        for law in session.plan.laws:
            session.verdict(law)
    finally:
        session.close()
    assert asked["energy.never-negative"] == Problem.from_line(line).line()
    assert set(asked.values()) == {asked["energy.never-negative"], None}
