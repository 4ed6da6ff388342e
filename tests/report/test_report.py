"""The report: its denominators, its exit codes, and its four forms."""

import dataclasses
import io
import json
import math
import shlex
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from pcbench.errors import UsageError
from pcbench.problem.mlp import Problem
from pcbench.report.changes import changes_between
from pcbench.report.evidence import OUTCOMES, Verdict, Worst
from pcbench.report.files import check_writable, junit_xml, markdown_text, read, write
from pcbench.report.known_failures import KnownFailure
from pcbench.report.report import LawText, Report, RunHeader
from pcbench.report.text import print_report

PROBLEM = "D=3,N=5,L=4,K=2,B=3,activation=tanh,parameterisation=general:output=0.75:depth=0.25,weight_scale=0.3,seed=7"


def verdict(law, outcome="pass", margin=0.1, **changes):
    worst = Worst(margin=margin, error=margin, allowance=1.0, problem=PROBLEM)
    values = {"law": law, "outcome": outcome, "examples": 16, "shapes": 4, "worst": worst, **changes}
    if outcome == "fail":
        values.setdefault("failure", dataclasses.replace(worst, details={"layer": 2, "gap": 0.1234567}))
        values.setdefault("message", "too far")
    if outcome in ("blocked", "not-applicable", "not-run", "error"):
        values |= {"examples": 0, "shapes": 0, "worst": Worst()}
    return Verdict(**values)


def report(*verdicts, known=(), **header):
    values = {
        "pcbench": "0.1.0",
        "law_set": "abc",
        "implementation": "my dir/a.py",
        "spec": "my dir/a.py",
        "manifest": {"name": "mine", "library": "lib", "version": "0.6.1"},
        "profile": "smoke",
        "seed": 5,
        **header,
    }
    laws = tuple(LawText(id=v.law, statement=f"S of {v.law}", failing_means="M") for v in verdicts)
    return Report(header=RunHeader(**values), laws=laws, verdicts=verdicts, known=known)


def render(r, width=80):
    stream = io.StringIO()
    print_report(r, Console(width=width, file=stream, highlight=False))
    return stream.getvalue()


NASTY = "\x1b[31m<&>]]> \x00 ' \" | `tick` ```fence``` ~~~ \ud800 *x* <details>\nsecond line"
EVERYTHING = report(*(verdict(f"law.{outcome}", outcome, message="why so") for outcome in OUTCOMES), seed=2**63)


# ---- what it amounts to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["pass", "pass"], 0),
        (["pass", "not-applicable"], 0),
        (["pass", "expected-failure"], 0),
        (["pass", "fail"], 1),
        (["pass", "unexpected-pass"], 1),
        (["fail", "error", "inconclusive"], 1),
        (["pass", "inconclusive"], 3),
        (["pass", "error"], 3),
        (["pass", "timeout"], 3),
        (["pass", "not-run"], 3),
        (["pass", "blocked"], 3),
        (["not-applicable", "not-applicable"], 1),
        ([], 1),
    ],
)
def test_the_exit_code_is_what_a_pipeline_may_act_on(outcomes, code):
    """Breaks if something that was not judged turns a pipeline green, or an undecided law turns it red."""
    r = report(*(verdict(f"l{k}", o) for k, o in enumerate(outcomes)))
    assert r.exit_code == code
    assert (code == 0) == r.conclusion.startswith("conforms")


def test_a_partial_report_is_never_green():
    """Breaks if an interrupted run that happened to pass so far looks complete."""
    r = report(verdict("a"), verdict("b", "not-run"), partial="interrupted")
    assert r.exit_code == 130
    assert "partial: interrupted" in r.conclusion
    assert "partial" in render(r)


def test_a_blocked_law_counts_unless_the_known_failures_account_for_it():
    """Breaks if a known failure silently switches off every law that depends on it."""
    verdicts = verdict("a", "expected-failure"), verdict("b", "blocked")
    root, leaf = (KnownFailure(law=law, reason="r") for law in "ab")
    assert report(*verdicts, known=(root,)).exit_code == 3
    assert report(*verdicts, known=(root, leaf)).exit_code == 0


def test_the_denominators_add_up():
    """Breaks if a law is missing from the totals, so that a reader cannot see that it was not judged."""
    parts = EVERYTHING.summary.partition(" = ")[2].split(" + ")
    assert sum(int(part.split()[0]) for part in parts) == len(OUTCOMES) == len(EVERYTHING.verdicts)
    assert EVERYTHING.summary.startswith(f"{len(OUTCOMES)} laws")
    assert EVERYTHING.applicable == len(OUTCOMES) - 1


def test_a_report_has_exactly_one_verdict_per_law():
    """Breaks if a law can be left out of a report."""
    with pytest.raises(UsageError, match="one verdict per law"):
        Report(header=EVERYTHING.header, laws=EVERYTHING.laws, verdicts=EVERYTHING.verdicts[:-1])
    with pytest.raises(UsageError, match="passed"):
        report(verdict("a", "passed"))


def test_the_replay_line_survives_a_shell():
    """Breaks if the printed command, pasted into a shell, replays another problem or another implementation."""
    r = report(verdict("a", "fail"), interpreter="/x y/python")
    words = shlex.split(r.replay(r.verdicts[0]))
    assert words == ["pcbench", "replay", "a", PROBLEM, "--impl", "my dir/a.py", "--python", "/x y/python"]
    assert f"'{PROBLEM}'" in r.replay(r.verdicts[0])
    assert Problem.from_line(words[3]).line() == PROBLEM


# ---- JSON -----------------------------------------------------------------------------------------------------------


def test_json_is_strict_and_reads_back_to_the_same_report(tmp_path):
    """Breaks if a report cannot be compared later, or holds what other readers of JSON refuse."""
    infinite = verdict("x", "fail", margin=math.inf)
    r = report(*EVERYTHING.verdicts, infinite, known=(KnownFailure(law="x", reason="r"),), devices=("cpu",))

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    json.loads(r.dumps(), parse_constant=refuse)
    assert Report.loads(r.dumps()) == r
    path = tmp_path / "r.json"
    write(r, json=str(path))
    assert read(path) == r


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no report"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 2, "header": {}}', "damaged"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, says):
    """Breaks if a wrong file gives a traceback, or a comparison with nothing."""
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        read(tmp_path / "r.json")
    assert "r.json" in str(caught.value)


# ---- JUnit ----------------------------------------------------------------------------------------------------------


def test_junit_counts_match_its_elements_and_nasty_text_is_well_formed():
    """Breaks if a pipeline cannot parse the file or shows other totals than the report."""
    r = report(*EVERYTHING.verdicts, verdict("nasty", "error", message=NASTY, stderr=NASTY))
    root = ET.fromstring(junit_xml(r))
    suite = root.find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [v.law for v in r.verdicts]
    assert int(suite.get("tests", "")) == len(cases)
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(attribute, "")) == len(suite.findall(f"testcase/{kind}"))
    kinds = {case.get("name"): [child.tag for child in case] for case in cases}
    assert kinds["law.pass"] == []
    assert kinds["law.fail"] == kinds["law.unexpected-pass"] == ["failure"]
    assert kinds["law.error"] == kinds["law.timeout"] == kinds["law.inconclusive"] == ["error"]
    assert kinds["law.blocked"] == kinds["law.not-run"] == kinds["law.expected-failure"] == ["skipped"]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "pcbench replay law.fail" in (failure.text or "")


# ---- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_every_failure_is_explained(width):
    """Breaks if the table is cut off, or a failure lacks what a reader needs to act on it."""
    text = render(EVERYTHING, width)
    lines = text.splitlines()
    free = ("problem", "replay", "command")
    assert all(len(line) <= width for line in lines if line.split()[:1] and line.split()[0] not in free)
    for law in EVERYTHING.laws:
        assert any(line.startswith(law.id) for line in lines), law.id
    for part in (
        "S of law.fail",
        "allowed 1",
        "margin 0.1",
        "failing usually means  M",
        "layer=2, gap=0.1235",
        PROBLEM,
    ):
        assert part in text
    assert EVERYTHING.replay(EVERYTHING.verdicts[1]) in text
    assert str(2**63) in text


def test_markup_in_messages_is_printed_as_it_is():
    """Breaks if an implementation's message can vanish or restyle the report, as rich's markup would."""
    text = render(report(verdict("a", "error", message="shape [bold] and [/nothing] [3, 5]", stderr=NASTY)))
    assert "shape [bold] and [/nothing] [3, 5]" in text
    assert "\x1b" not in text


def test_markdown_keeps_its_table_and_its_fences():
    """Breaks if a message with pipes, fences or HTML destroys the comment on a pull request."""
    r = report(*EVERYTHING.verdicts, verdict("nasty", "error", message=NASTY, stderr=NASTY))
    text = markdown_text(r)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(r.verdicts)
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
    lines = text.splitlines()  # what is between fences is indented
    assert lines.count("<details>") == lines.count("</details>") == 2
    fences = [line.strip() for line in text.splitlines() if line.strip() and set(line.strip()) == {"~"}]
    assert len(fences) % 2 == 0
    assert EVERYTHING.replay(EVERYTHING.verdicts[1]) in text
    text.encode("utf-8")


def test_files_that_cannot_be_written_are_refused_before_and_after(tmp_path):
    """Breaks if a long run is lost because a directory is missing, or one bad path loses the other files."""
    with pytest.raises(UsageError, match="missing"):
        check_writable([str(tmp_path / "missing" / "r.json"), None])
    with pytest.raises(UsageError, match="missing"):
        write(EVERYTHING, json=str(tmp_path / "missing" / "r.json"), markdown=str(tmp_path / "r.md"))
    assert (tmp_path / "r.md").exists()


# ---- comparison -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "regression"),
    [
        (verdict("a"), verdict("a", "fail"), True),
        (verdict("a"), verdict("a", "inconclusive"), True),
        (verdict("a"), verdict("a", "blocked"), True),
        (verdict("a"), verdict("a", "not-applicable"), True),
        (verdict("a", "fail"), verdict("a"), False),
        (verdict("a", "expected-failure"), verdict("a", "fail"), True),
        (verdict("a", "expected-failure"), verdict("a", "unexpected-pass"), False),
        (verdict("a", "not-applicable"), verdict("a"), False),
        (verdict("a", "not-applicable"), verdict("a", "fail"), True),
        (verdict("a", margin=0.1), verdict("a", margin=0.3), True),
        (verdict("a", margin=0.0), verdict("a", margin=0.3), True),
        (verdict("a", margin=0.1), verdict("a", margin=0.15), None),
        (verdict("a", margin=1e-6), verdict("a", margin=1e-3), None),
        (verdict("a", margin=0.3), verdict("a", margin=0.1), None),
        (verdict("a"), verdict("a"), None),
    ],
)
def test_what_counts_as_a_regression(before, after, regression):
    """Breaks if a gate lets a regression through, or stops for an improvement or for noise."""
    found = changes_between(report(before), report(after))
    assert [c.regression for c in found] == ([] if regression is None else [regression])


def test_laws_that_vanish_are_regressions_and_margins_of_other_draws_are_not():
    """Breaks if deleting a law makes a gate green, or random seeds make it red."""
    two = report(verdict("a"), verdict("b", "not-applicable"))
    assert [(c.law, c.regression) for c in changes_between(two, report(verdict("a")))] == [("b", True)]
    assert [(c.law, c.regression) for c in changes_between(report(verdict("a")), two)] == [("b", False)]
    grown = changes_between(report(verdict("a", margin=0.1)), report(verdict("a", margin=0.9), seed=6))
    assert [c.regression for c in grown] == [False]
