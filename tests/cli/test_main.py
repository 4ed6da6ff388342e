"""The command line: what it prints, which files it writes, and with which exit code it ends."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.conformance import run as runner
from pcbench.laws.definition import REGISTRY
from pcbench.report.files import read
from tests.conformance import fake_engine

ROOT = str(Path(__file__).parents[2])
SMALL = "D=2,N=3,L=3,K=2,B=2,activation=tanh,seed=1"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake(here, monkeypatch):
    """The laws of `fake_engine` instead of the real ones; returns how to give it orders."""
    saved = dict(REGISTRY)
    fake_engine.register()
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv("FAKE_ENGINE_CHILD", "1")
    monkeypatch.setattr(runner, "check", functools.partial(runner.check, engine=fake_engine.__name__))
    yield lambda **orders: monkeypatch.setenv("FAKE_ENGINE", json.dumps(orders))
    REGISTRY.clear()
    REGISTRY.update(saved)


def pcbench(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


SMOKE = ("check", "numpy", "--profile", "smoke", "--seed", "3", "--workers", "1")


# ---- check ----------------------------------------------------------------------------------------------------------


def test_check_writes_every_file_and_ends_with_0(here, fake):
    """Breaks if a conforming implementation does not give a green pipeline with its artefacts."""
    fake()
    result = pcbench(*SMOKE, "--json", "r.json", "--junit", "r.xml", "--markdown", "r.md")
    assert result.exit_code == 0, result.output
    assert "[5/5]" in result.output
    assert "seed 3" in result.output
    assert "conforms: 4 of 4 applicable laws hold" in result.output
    report = read("r.json")
    assert report.header.seed == 3
    assert report.header.implementation == "numpy"
    assert sum(report.counts().values()) == 5
    assert ET.parse("r.xml").getroot().get("tests") == "5"
    assert "conforms" in Path("r.md").read_text()
    assert not Path(".pcbench").exists()


@pytest.mark.parametrize(
    ("orders", "code", "says"),
    [
        ({"fail": ["fake.root"]}, 1, "does not conform: 1 fail"),
        ({"crash": ["fake.root"]}, 3, "undecided: 1 error, 1 blocked"),
    ],
)
def test_check_ends_with_a_code_for_each_kind_of_trouble(here, fake, orders, code, says):
    """Breaks if a pipeline cannot tell a broken law from a run that decided nothing."""
    fake(**orders)
    result = pcbench(*SMOKE, "--quiet")
    assert (result.exit_code, says in result.output) == (code, True), result.output
    assert len(result.output.splitlines()) == 1


def test_check_with_nothing_applicable_is_red(here, fake):
    """Breaks if an implementation that claims nothing passes everything."""
    fake()
    result = pcbench(*SMOKE, "--laws", "fake.residual-free")
    assert result.exit_code == 1
    assert "nothing was judged" in result.output


def test_check_prints_a_replay_line_that_parses(here, fake):
    """Breaks if the command that a failure gives is not one that pcbench accepts."""
    fake(fail=["fake.root"])
    result = pcbench(*SMOKE)
    line = re.search(r"pcbench replay (\S+) '([^']+)' --impl numpy$", result.output, re.MULTILINE)
    assert line is not None
    assert line.groups() == ("fake.root", fake_engine.PROBLEM)


def test_known_failures_turn_a_red_run_green_until_they_are_fixed(here, fake):
    """Breaks if --known-failures is ignored or never noticed to be out of date."""
    Path("known.json").write_text(json.dumps([{"law": "fake.last", "reason": "slow", "versions": ">=1"}]))
    fake(fail=["fake.last"])
    assert pcbench(*SMOKE, "--known-failures", "known.json").exit_code == 0
    fake()
    result = pcbench(*SMOKE, "--known-failures", "known.json")
    assert result.exit_code == 1
    assert "unexpected-pass" in result.output
    Path("known.json").write_text(json.dumps([{"law": "fake.last", "reason": "slow", "versions": "<1"}]))
    result = pcbench(*SMOKE, "--known-failures", "known.json")
    assert (result.exit_code, "fake.last" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("check", "nmpy"), "did you mean 'numpy'"),
        (("chek",), "did you mean check"),
        (("check", "numpy", "--profle", "smoke"), "--profile"),
        (("check", "numpy", "--profile", "smok"), "smoke"),
        (("check", "numpy", "--laws", "energy.never-negatve"), "energy.never-negative"),
        (("check", "numpy", "--laws", ","), "names no law"),
        (("check", "numpy", "--seed", "-1"), "-1"),
        (("check", "numpy", "--seed", "x"), "x"),
        (("check", "numpy", "--workers", "0"), "0"),
        (("check", "numpy", "--timeout", "0"), "0"),
        (("check", "numpy", "--json", "missing/r.json"), "missing/r.json"),
        (("check", "numpy", "--known-failures", "missing.json"), "missing.json"),
        (("check", "numpy", "--in-process", "--python", "python"), "--python"),
        (("check", "numpy", "--python", "/no/such/python"), "/no/such/python"),
        (("check", "no_such_file.py"), "no_such_file.py"),
        (("laws", "energi"), "did you mean energy"),
        (("replay", "energy.never-negative", "D=2,N=3"), "needs"),
        (("replay", "energy", SMALL), "give the id of one"),
        (("replay", "energy.never-negative", SMALL, "--impl", "nmpy"), "did you mean 'numpy'"),
        (("compare", "a.json", "b.json"), "a.json"),
        (("new-adapter", "3x"), "3x"),
    ],
)
def test_every_mistake_is_a_message_and_exit_code_2(here, args, says):
    """Breaks if a misspelt name or a bad number gives a traceback, another exit code, or is taken for another."""
    result = pcbench(*args)
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output
    assert not Path(".pcbench").exists()


def test_an_implementation_that_crashes_at_import_is_exit_code_2(here):
    """Breaks if an implementation that cannot start looks like one that fails laws, or its words are lost."""
    Path("crash.py").write_text("import sys, os\nprint('dying words', file=sys.stderr, flush=True)\nos._exit(9)\n")
    result = pcbench("check", "crash.py", "--profile", "smoke")
    assert result.exit_code == 2
    assert "dying words" in result.output
    assert len(result.output) < 2000


def test_an_unknown_environment_variable_is_an_error(here, monkeypatch):
    """Breaks if a misspelt variable is silently without effect."""
    monkeypatch.setenv("PCBENCH_PROFIL", "smoke")
    result = pcbench("laws")
    assert result.exit_code == 2
    assert "PCBENCH_PROFIL" in result.output


def test_help_documents_the_exit_codes():
    """Breaks if somebody who writes a pipeline has to read the source."""
    text = pcbench("check", "--help").output
    for code in ("0 ", "1 ", "2 ", "3 ", "130"):
        assert re.search(rf"^ +{code}", text, re.MULTILINE), code
    assert pcbench("--version").output.startswith("pcbench, version ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_command_writes_the_partial_report(here, number):
    """Breaks if Ctrl-C, or a cancelled pipeline, loses what was judged or gives a traceback."""
    command = [
        sys.executable,
        "-m",
        "pcbench.cli.main",
        "check",
        "numpy",
        "--profile",
        "thorough",
        "--laws",
        "contract",
    ]
    process = subprocess.Popen(
        [*command, "--json", "r.json", "--seed", "1", "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 30
    while not list(Path(".pcbench").glob("*.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    report = read("r.json")
    assert report.header.partial == "interrupted"
    assert {v.outcome for v in report.verdicts} >= {"not-run"}
    assert list(Path(".pcbench").glob("*.jsonl")), "the journal is kept for the next run"


def test_check_judges_the_real_laws(here):
    """Breaks if command, runners, Hypothesis, laws and adapter do not fit together."""
    arguments = ("--laws", "energy.never-negative", "--json", "r.json")
    result = pcbench(*SMOKE, *arguments)
    assert result.exit_code == 0, result.output
    verdict = read("r.json").verdicts[0]
    assert verdict.outcome == "pass"
    assert verdict.examples == 16
    inside = pcbench(*SMOKE, "--in-process", *arguments)
    assert inside.exit_code == 0, inside.output
    assert read("r.json").verdicts[0].worst == verdict.worst


# ---- laws, replay, compare, adapters --------------------------------------------------------------------------------


def test_the_catalogue_lists_every_law():
    """Breaks if a law cannot be found, or --json is no JSON."""
    data = json.loads(pcbench("laws", "--json").output)
    assert [law["id"] for law in data] == list(REGISTRY)
    assert all(law["statement"] and law["citation"] and law["failing_means"] for law in data)
    text = pcbench("laws").output
    assert all(id in text for id in REGISTRY)
    one = pcbench("laws", "energy.never-negative").output
    assert "failing usually means" in one


def test_replay_prints_everything_and_ends_with_the_verdict(here):
    """Breaks if a failure cannot be looked at, or replay calls it something else than the run did."""
    good = pcbench("replay", "energy.matches-definition", SMALL, "--impl", "numpy", "--in-process")
    assert good.exit_code == 0, good.output
    for name in ("statement", "width", "scalings", "measured", "allowed", "margin", "verdict"):
        assert re.search(rf"^{name} ", good.output, re.MULTILINE), name
    Path("twice.py").write_text(
        "from pcbench.adapters.numpy import NumpyPCN\n"
        "class Twice(NumpyPCN):\n"
        "    def energy(self, *args): return 2 * super().energy(*args)\n"
        "implementation = Twice()\n"
    )
    bad = pcbench("replay", "energy.matches-definition", SMALL, "--impl", "twice.py")
    assert bad.exit_code == 1, bad.output
    assert re.search(r"^verdict +fail$", bad.output, re.MULTILINE)
    assert "failing usually means" in bad.output


def test_compare_ends_with_1_for_a_regression_only(here, fake):
    """Breaks if a gate on two reports does not see a law that broke."""
    fake()
    pcbench(*SMOKE, "--json", "a.json")
    fake(fail=["fake.last"])
    pcbench(*SMOKE, "--json", "b.json")
    result = pcbench("compare", "a.json", "b.json")
    assert result.exit_code == 1
    assert re.search(r"^REGRESSION +fake.last +pass -> fail", result.output, re.MULTILINE)
    assert pcbench("compare", "b.json", "a.json").exit_code == 0
    assert pcbench("compare", "a.json", "a.json").exit_code == 0


def test_adapters_say_whether_their_library_is_installed():
    """Breaks if `pcbench adapters` hides an adapter or calls an installed library missing."""
    text = pcbench("adapters").output
    assert re.search(r"^numpy +numpy +yes \d", text, re.MULTILINE)
    assert "fabricpc" in text
    # what is no package is cloned: pip would install somebody else's
    assert re.search(r"^torch2pc +TorchSeq2PC +(yes|no: pcbench env)", text, re.MULTILINE)


def test_a_new_adapter_is_written_once_and_passes(here):
    """Breaks if the scaffold does not pass as it is, or overwrites somebody's work."""
    first = pcbench("new-adapter", "mine", "--directory", "d")
    assert first.exit_code == 0, first.output
    files = {p: p.read_bytes() for p in Path("d").rglob("*") if p.is_file()}
    assert files
    second = pcbench("new-adapter", "mine", "--directory", "d")
    assert second.exit_code == 2
    assert "exist already" in second.output
    assert {p: p.read_bytes() for p in files} == files
    tried = re.search(r"pcbench check (\S+) --profile smoke", first.output)
    assert tried is not None
    replayed = pcbench("replay", "contract.shapes-and-dtypes", "D=2,N=3,L=3,K=2,B=2", "--impl", tried[1])
    assert replayed.exit_code == 0, replayed.output
