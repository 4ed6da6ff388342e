"""`pcbench gate` as a pipeline meets it: every exit code, Markdown and JSON, Ctrl-C; measurements are made up."""

import json
import math
import os
import signal
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.errors import AdapterError
from pcbench.gate import outcome, session, summary
from pcbench.gate.rows import ROWS
from pcbench.protocol.implementation import Capabilities, Manifest
from pcbench.report.evidence import Verdict, Worst
from pcbench.report.report import LawText, Report, RunHeader
from pcbench.timing import harness as harnesses

LAWS = ("energy.a", "energy.b")


def report(outcomes=("pass", "pass"), margins=(0.1, 0.2)):
    header = RunHeader(pcbench="1", law_set="x", implementation="i", spec="s", profile="smoke", seed=7,
                       dtypes=("float32", "float64"))  # fmt: skip
    verdicts = tuple(
        Verdict(law=law, outcome=o, examples=9, worst=Worst(problem="D=1", margin=m), message="as said")
        for law, o, m in zip(LAWS, outcomes, margins, strict=True)
    )
    laws = tuple(LawText(id=law, statement="") for law in LAWS)
    return Report(header=header, laws=laws, verdicts=verdicts).to_json()


class Fake:
    """What the processes of both sides would say: conformance, offers and numbers."""

    def __init__(self):
        self.reports = {"base": report(), "head": report()}
        self.factor, self.noise, self.metrics = 1.0, 0.01, {}
        self.failing = ""
        self.random = np.random.default_rng(1)
        self.measured = []

    def check(self, driver, side, profile, seed, laws, known_failures, progress):
        progress(2, 2)
        return self.reports[side.label]

    def measure(self, driver, side, tasks):
        manifest = Manifest(name="fake", capabilities=Capabilities(dtypes=("float32", "float64")))
        answer = {"manifest": manifest.to_json(), "host": {"device": "none"}, "tasks": {}}
        answer["methods"] = ["weight_gradients", "equilibrium", "train"]
        for task in tasks:
            self.measured.append((side.label, task["name"]))
            if self.failing == side.label and "keep" not in task:
                raise AdapterError(f"{side.label} crashed")
            head = side.label == "head"
            noise = math.exp(self.noise * self.random.standard_normal())
            answer["tasks"][task["name"]] = {
                "seconds": noise * (self.factor if head else 1.0), "calls": 3, "import_seconds": noise,
                "first_call_seconds": noise, "peak_memory": 100.0, "evaluations": 20, "compilations": 2,
                **(self.metrics if head else {}),
            }  # fmt: skip
        return answer


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setattr(harnesses.Harness, "check", lambda driver, *a: made.check(driver, *a))
    monkeypatch.setattr(harnesses.Harness, "measure", lambda driver, *a: made.measure(driver, *a))
    return made


@pytest.fixture
def repository(tmp_path, monkeypatch):
    place = tmp_path / "repository"
    place.mkdir()
    for number in (1, 2):
        (place / "adapter.py").write_text(f"number = {number}\n")
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", f"number {number} | of `two`"]):
            settings = ["-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run(["git", *settings, *words], cwd=place, check=True, capture_output=True)
    monkeypatch.chdir(place)
    return place


ROWS_USED = "infer-wide,weight-gradient,compilations,import"


def gate(*arguments, rows=ROWS_USED):
    words = ["gate", "HEAD~1", "HEAD", "--implementation", "adapter.py", "--seed", "7", "--rows", rows, *arguments]
    return CliRunner().invoke(main, words)


def worktrees(place):
    return subprocess.run(["git", "worktree", "list"], cwd=place, capture_output=True, text=True).stdout.splitlines()


# ---- exit codes ------------------------------------------------------------------------------------------------------


def test_equal_code_passes(fake, repository):
    """If this fails, a change that changes nothing cannot be merged."""
    result = gate()
    assert result.exit_code == 0, result.output
    assert "no regression (exit code 0)" in result.output
    assert "A/A pairs spread by" in result.output  # what the host can see is said before anything is judged
    assert "at most 4.0%" in result.output  # of all four comparisons
    assert len(worktrees(repository)) == 1


def test_a_slower_row_is_a_regression(fake, repository):
    """If this fails, a fifth more time passes."""
    fake.factor = 1.2
    result = gate()
    assert result.exit_code == 1
    assert "regression: infer-wide +" in result.output


def test_one_more_compilation_is_a_regression(fake, repository):
    """If this fails, what never varies is never judged."""
    fake.metrics = {"compilations": 3}
    result = gate()
    assert result.exit_code == 1
    assert "regression: compilations +50.0%" in result.output


def test_a_margin_that_grew_is_seen_and_is_a_regression_above_the_floor(fake, repository):
    """If this fails, a numerical drift that no tolerance catches yet stays unseen."""
    fake.reports["head"] = report(margins=(0.1, 0.7))
    result = gate()
    assert result.exit_code == 1
    assert "REGRESSION  energy.b  margin 0.2 -> 0.7, 3.5 times" in result.output


def test_a_drift_far_below_the_tolerance_is_shown(fake, repository):
    """If this fails, a drift by a factor of a thousand is hidden because it is still small."""
    fake.reports = {"base": report(margins=(0.1, 1e-6)), "head": report(margins=(0.1, 1e-3))}
    result = gate()
    assert result.exit_code == 0
    assert "energy.b  margin 1e-06 -> 0.001, 1000.0 times" in result.output
    assert "energy.b" not in gate("--drift", "2000").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gate", "no-such-branch"], "BASE 'no-such-branch' is no commit"),
        (["gate", "HEAD", "--implementation", "numpyy"], "did you mean 'numpy'"),
        (["gate", "HEAD", "--rows", "nothing"], "row nothing does not exist"),
        (["gate", "HEAD", "--profile", "huge"], "needed one of smoke"),
        (["gate", "HEAD", "--pairs", "4"], "needed 8 pairs"),
        (["gate", "HEAD", "--pairs", "12", "--max-pairs", "8"], "needed at least the 12"),
        (["gate", "HEAD", "--implementation", "other.py"], "does not exist in base"),
        (["gate", "HEAD", "--json", "no/where.json"], "cannot be written"),
        (["gate", "HEAD", "--ratio", "0.3"], "below the effect"),
    ],
)
def test_a_wrong_command_is_refused_with_code_2(fake, repository, arguments, said):
    """If this fails, a mistake in a pipeline looks like a regression, or costs minutes first."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert fake.measured == []
    assert len(worktrees(repository)) == 1


def test_the_commit_that_brings_the_adapter_has_nothing_to_be_compared_with(fake, repository):
    """If this fails, the pull request that adds an adapter and the gate is red for adding them."""
    (repository / "new.py").write_text("number = 3\n")
    result = CliRunner().invoke(main, ["gate", "HEAD", "--implementation", "new.py", "--markdown", "summary.md"])
    assert result.exit_code == 3, result.output
    assert "nothing could be compared: new.py is new" in result.output
    assert "new.py is new" in (repository / "summary.md").read_text()
    assert fake.measured == []
    assert len(worktrees(repository)) == 1


def test_a_crash_is_code_2(fake, repository):
    """If this fails, a head that crashes where the base does not is no error."""
    fake.failing = "head"
    result = gate()
    assert result.exit_code == 2
    assert "error: infer-wide" in result.output


def test_too_few_pairs_is_code_3(fake, repository):
    """If this fails, a row about which nothing is known passes: -25 % in one pair of eight, +25 % in the others."""
    fake.noise = 0.0
    heads = [0]

    def measure(driver, side, tasks):
        answer = original(driver, side, tasks)
        for task in tasks:
            if "keep" not in task:
                heads[0] += side.label == "head"
                value = 1.0 if side.label == "base" else 0.75 if heads[0] == 8 else 1.25
                answer["tasks"][task["name"]]["seconds"] = value
        return answer

    original, fake.measure = fake.measure, measure
    result = gate("--max-pairs", "8", "--calibration", "40", rows="weight-gradient")
    assert result.exit_code == 3, result.output
    assert "too little data: weight-gradient undecided" in result.output


def test_nothing_compared_is_code_3(fake, repository):
    """If this fails, a gate that measured nothing is green: the base does not conform, so rows are withheld."""
    fake.reports["base"] = report(outcomes=("pass", "fail"))
    result = gate()
    assert result.exit_code == 3
    assert "too little data: no row was compared" in result.output
    assert "conformance of base did not pass" in " ".join(result.output.split())
    assert fake.measured == []


def test_a_noisy_host_is_code_4(fake, repository):
    """If this fails, the gate judges on a host where equal processes differ by a factor of two."""
    fake.noise = 0.7
    result = gate()
    assert result.exit_code == 4
    assert "host too noisy" in result.output


@pytest.mark.parametrize("bad", ["fail", "error", "inconclusive"])
def test_a_head_that_does_not_conform_is_code_5_and_is_not_measured(fake, repository, bad):
    """If this fails, wrong code is praised for its speed."""
    fake.reports["head"] = report(outcomes=("pass", bad))
    fake.factor = 0.5
    result = gate()
    assert result.exit_code == 5
    assert "conformance failed" in result.output
    assert "energy.b" in result.output
    assert result.output.count("withheld") == 4
    assert fake.measured == []


def test_all_codes_are_in_the_help():
    """If this fails, an exit code is documented nowhere."""
    text = CliRunner().invoke(main, ["gate", "--help"]).output
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert f"\n    {code} " in text


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["check", "measure"])
def test_an_interrupt_leaves_nothing(fake, repository, monkeypatch, tmp_path, number, where):
    """If this fails, Ctrl-C or a cancelled pipeline leaves worktrees and temporary directories behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def interrupt(*arguments):
        os.kill(os.getpid(), number)

    setattr(fake, where, interrupt)
    result = gate()
    assert result.exit_code == 130
    assert "interrupted" in result.output
    assert len(worktrees(repository)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["repository"]


# ---- what is written -------------------------------------------------------------------------------------------------


def test_files_say_what_the_terminal_says(fake, repository, tmp_path):
    """If this fails, the comment on a pull request lacks the verdict, the rates, or what was withheld."""
    fake.factor = 1.2
    fake.reports["head"] = report(margins=(0.1, 0.7))
    result = gate("--json", str(tmp_path / "g.json"), "--markdown", str(tmp_path / "g.md"))
    data = json.loads((tmp_path / "g.json").read_text())
    assert data["exit_code"] == result.exit_code == 1
    assert [row["outcome"] for row in data["rows"]] == ["regression", "regression", "cleared", "cleared"]
    assert len(data["rows"][0]["base"]) == 8
    text = (tmp_path / "g.md").read_text()
    assert text.startswith("## pcbench gate: regression: infer-wide +")
    assert "| `infer-wide` | ❌ regression |" in text
    assert "| `compilations` | ✅ cleared | 2 programs | 2 programs | +0.0% | 8 | exact |" in text
    assert "| `energy.b` | margin 0.2 -\\> 0.7, 3.5 times (D=1) | ❌ regression |" in text
    assert "grew 2 times or more" in text
    assert "false alarm on equal code at most 1.00%" in text
    assert "number 2 | of 'two'" in text  # inside backticks, where a backtick of the subject would end them
    assert text.count("<details>") == text.count("</details>") == 1


def test_markdown_names_what_was_withheld(fake, repository, tmp_path):
    """If this fails, a row that was withheld looks as if it did not exist."""
    fake.reports["head"] = report(outcomes=("fail", "pass"))
    gate("--markdown", str(tmp_path / "g.md"))
    text = (tmp_path / "g.md").read_text()
    assert text.count("🚫 withheld") == 4
    assert "conformance of head did not pass" in text


def test_quiet_prints_the_conclusion_alone(fake, repository):
    """If this fails, --quiet is not."""
    assert gate("--quiet").output == "no regression (exit code 0)\n"


def test_the_working_tree_and_what_is_left_out_are_named(fake, repository):
    """If this fails, somebody believes that uncommitted changes were measured, or that they were not."""
    (repository / "adapter.py").write_text("number = 3\n")
    assert "1 uncommitted changes" in gate().output
    assert "are not in HEAD" in gate().output
    words = ["gate", "HEAD", "--implementation", "adapter.py", "--seed", "7", "--rows", "import"]
    result = CliRunner().invoke(main, words)
    assert "head: working tree" in result.output
    assert "with 1 uncommitted changes" in result.output


def test_equal_files_are_said_to_be_equal(fake, repository):
    """If this fails, an A/A run passes for a comparison."""
    words = ["gate", "HEAD", "HEAD", "--implementation", "adapter.py", "--rows", "import"]
    assert "the same files" in CliRunner().invoke(main, words).output


def test_a_part_of_the_laws_is_said_to_be_one(fake, repository):
    """If this fails, a pull request looks as if all laws had been judged."""
    assert "by the laws energy, gradient alone" in gate("--laws", "energy,gradient").output


# ---- the data --------------------------------------------------------------------------------------------------------


def test_the_worst_of_several_decides_the_code():
    """If this fails, a noisy row hides a regression."""

    def code_of(*outcomes, conforms=True, regression=False):
        rows = [outcome.Comparison(row=str(k), unit="s", outcome=o, why="") for k, o in enumerate(outcomes)]
        margins = (outcome.LawChange(law="a", text="", regression=True),) if regression else ()
        good = outcome.Conformance(passed=True, conclusion="")
        return outcome.GateReport(
            base="", head="", implementation="", profile="", seed=0, plan=session.Plan(), margins=margins,
            conformance=(good, outcome.Conformance(passed=conforms, conclusion="")), rows=tuple(rows),
        ).exit_code  # fmt: skip

    assert code_of("noisy", "error", "regression", conforms=False) == 5
    assert code_of("noisy", "error", "regression", "undecided") == 1
    assert code_of("cleared", regression=True) == 1
    assert code_of("noisy", "error", "undecided") == 2
    assert code_of("noisy", "undecided", "cleared") == 4
    assert code_of("undecided", "cleared") == 3
    assert code_of("not-applicable", "withheld") == code_of() == 3
    assert code_of("cleared", "improvement", "small", "withheld", "not-applicable") == 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(1.5, "s", "1.5 s"), (2.34e-3, "s", "2.34 ms"), (5e-8, "s per sample-step", "50 ns per sample-step"),
     (1.2e-5, "s", "12 µs"), (3, "programs", "3 programs")],
)  # fmt: skip
def test_amounts_have_units_that_suit_them(value, unit, shown):
    """If this fails, a table shows 0.000 s."""
    assert summary.amount(value, unit) == shown


def test_json_is_strict(fake, repository, tmp_path):
    """If this fails, a row without numbers makes JSON that other programs refuse."""
    fake.reports["head"] = report(outcomes=("fail", "pass"))
    gate("--json", str(tmp_path / "g.json"))
    json.loads((tmp_path / "g.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def test_every_default_row_has_a_metric_that_a_process_reports(fake, repository):
    """If this fails, a row asks for a number that nobody measures, and is not applicable for ever."""
    outcomes = session.Settings.__dataclass_fields__
    assert "chosen" in outcomes
    metrics = {row.metric for row in ROWS.values()}
    assert metrics == {"seconds", "evaluations", "import_seconds", "first_call_seconds", "compilations", "peak_memory"}
