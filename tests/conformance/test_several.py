"""The compliance matrix: every implementation has its column, whatever became of it, and nothing is judged twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pcbench.adapters import register as adapters
from pcbench.cli.main import main
from pcbench.conformance import several as matrix_run
from pcbench.errors import UsageError
from pcbench.report import matrix, matrix_figure
from pcbench.report.evidence import Verdict, Worst
from pcbench.report.matrix import Column
from pcbench.report.report import LawText, Report, RunHeader

HALVED = """
from pcbench.adapters.numpy import NumpyPCN

class Halved(NumpyPCN):
    def energy(self, network, input, target, activities):
        return super().energy(network, input, target, activities) / 2

implementation = Halved
"""
LAWS = "energy.matches-definition,energy.feedforward-equals-loss"


def column(name: str, **outcomes: str) -> Column:
    """A column with these outcomes, law by law, each with margin 0.5 or 2."""
    problem = Worst(margin=2.0, error=2.0, allowance=1.0, problem="D=1,N=1,L=2,K=1,B=1")
    verdicts = []
    for law, outcome in outcomes.items():
        broken = outcome in ("fail", "expected-failure")
        worst = problem if broken else Worst(margin=0.5, error=0.5, allowance=1.0)
        judged = {"examples": 8, "worst": worst, "failure": problem if broken else None}
        verdicts.append(Verdict(law=law, outcome=outcome, **(judged if outcome != "not-applicable" else {})))
    header = RunHeader(
        pcbench="0", law_set="0", implementation=name, spec=name, profile="smoke", manifest={"name": name}
    )
    texts = tuple(LawText(id=law, statement=f"{law} holds") for law in outcomes)
    return Column(name=name, report=Report(header=header, laws=texts, verdicts=tuple(verdicts)))


GOOD = column("good", **{"a.one": "pass", "a.two": "pass", "b.three": "not-applicable"})
BAD = column("bad", **{"a.one": "pass", "a.two": "fail", "b.three": "not-applicable"})
ABSENT = Column(name="absent", problem="absent is not installed: pip install absent")


def run(*arguments: str):
    return CliRunner().invoke(main, ["matrix", *arguments])


def test_a_law_that_nobody_claims_is_left_out_and_counted():
    """If this fails, the matrix hides laws without saying so, or drowns in empty lines."""
    assert matrix.applicable([GOOD, BAD]) == ["a.one", "a.two"]
    text = matrix.as_markdown([GOOD, BAD, ABSENT], "pcbench matrix good bad absent")
    assert "1 laws apply to none of them" in text
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `a.")]
    rows = {first: rest for first, *rest in cells}
    assert rows == {"`a.one`": ["0.5", "0.5", ""], "`a.two`": ["0.5", "❌ 2", ""]}
    assert "absent is not installed: pip install absent" in text


def test_every_failure_has_its_replay():
    """If this fails, a reader of the matrix cannot see a failure for himself."""
    replay = "pcbench replay a.two 'D=1,N=1,L=2,K=1,B=1' --impl bad"
    assert replay in matrix.as_markdown([GOOD, BAD], "c")
    data = matrix.as_data([GOOD, BAD, ABSENT], "c")
    assert data["laws"][1]["verdicts"]["bad"] == {"outcome": "fail", "margin": "2", "examples": 8, "replay": replay}
    assert data["implementations"][2] == {"name": "absent", "problem": ABSENT.problem}


@pytest.mark.parametrize(("columns", "code"), [([GOOD], 0), ([GOOD, BAD], 1), ([GOOD, ABSENT], 3), ([ABSENT, BAD], 1)])
def test_the_exit_code_is_that_of_the_worst(columns, code):
    """If this fails, a pipeline takes a broken law, or an implementation that did not start, for a success."""
    assert matrix.exit_code(columns) == code


def test_the_figure_has_a_square_for_every_verdict_and_none_for_what_is_not_claimed():
    """If this fails, the picture shows something else than the table."""
    figure = matrix_figure.draw_panels([GOOD, BAD, ABSENT])
    squares = [p for axes in figure.axes for p in axes.patches]
    assert len(squares) == 4
    assert [t.get_text() for axes in figure.axes for t in axes.texts] == [".50", ".50", ".50", "✕"]


def test_one_run_judges_all_and_the_next_only_what_has_changed(tmp_path):
    """If this fails, an implementation that is missing or wrong stops the others, or results are made twice or kept
    although the implementation is another."""
    wrong = tmp_path / "halved.py"
    wrong.write_text(HALVED)
    out = tmp_path / "out"
    arguments = [
        "no_such_module:thing",
        "numpy",
        str(wrong),
        "--profile",
        "smoke",
        "--laws",
        LAWS,
        "--output",
        str(out),
    ]
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    data = json.loads((out / "matrix.json").read_text())
    assert [i["name"] for i in data["implementations"]] == ["no_such_module", "numpy", "halved"]
    assert "no_such_module" in data["implementations"][0]["problem"]
    found = {law["law"]: {n: c["outcome"] for n, c in law["verdicts"].items()} for law in data["laws"]}
    # Half the energy is not the energy; at feedforward activities it is not the loss either.
    assert found["energy.matches-definition"] == {"numpy": "pass", "halved": "fail"}
    assert (out / "matrix.png").stat().st_size > 10_000
    written = {p.name: p.stat().st_mtime_ns for p in (out / "reports").glob("*.json")}
    assert set(written) == {"numpy.json", "halved.json"}

    again = run(*arguments)
    assert "numpy was judged before: conforms" in again.output
    assert {p.name: p.stat().st_mtime_ns for p in (out / "reports").glob("*.json")} == written


def test_a_new_version_or_another_seed_is_judged_anew(tmp_path):
    """If this fails, the matrix shows verdicts of a library that is no longer installed."""
    adapter, out = tmp_path / "mine.py", tmp_path / "out"
    source = HALVED + "from dataclasses import replace\nHalved.manifest = replace(Halved.manifest, version='VERSION')\n"
    arguments = [str(adapter), "--profile", "smoke", "--laws", LAWS, "--output", str(out)]
    for version, seed, judged in (("1", "1", True), ("1", "1", False), ("2", "1", True), ("2", "3", True)):
        adapter.write_text(source.replace("VERSION", version))
        result = run(*arguments, "--seed", seed)
        assert ("was judged before" not in result.output) == judged, (version, seed, result.output)


def test_known_failures_come_with_the_adapter():
    """If this fails, a failure that is known is shown as news."""
    (entry,) = matrix_run.parse_implementations(["fabricpc=/some/python"])
    assert (entry.name, entry.python) == ("fabricpc", "/some/python")
    assert "contract.target-has-two-axes" in [known.law for known in entry.known]
    assert adapters.known_failures_file("numpy") is None
    assert Path(adapters.known_failures_file("fabricpc") or "").name == "fabricpc.json"


def test_names_that_cannot_head_a_column_are_refused(tmp_path):
    """If this fails, one column overwrites another, or a folder that is a file gives a traceback."""
    with pytest.raises(UsageError, match="'numpy' is named twice"):
        matrix_run.parse_implementations(["numpy", "numpy=/other/python"])
    assert "name some, such as" in run().output
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = run("numpy", "--output", str(blocked))
    assert result.exit_code == 2
    assert "is a file" in result.output
