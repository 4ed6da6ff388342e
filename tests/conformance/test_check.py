"""`pcbench.check`, as somebody calls it from a notebook or from tests of their own."""

import html
import re

import pytest

import pcbench
from pcbench.adapters.numpy import NumpyPCN
from pcbench.conformance.progress import Progress
from pcbench.errors import MissingLibraryError, UsageError
from pcbench.report.known_failures import KnownFailure

LAWS = ["energy.matches-definition", "energy.never-negative"]


class Twice(NumpyPCN):
    """An energy that is twice what the manifest says."""

    def energy(self, network, input, target, activities):
        return 2 * super().energy(network, input, target, activities)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The current directory, in which pcbench leaves nothing behind; Hypothesis keeps a folder."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] in ([], [".hypothesis"])


def margins(report):
    return {v.law: (v.outcome, v.worst.margin, v.worst.problem) for v in report.verdicts}


def test_a_name_and_an_object_are_judged_alike():
    """If this fails, a notebook says something else than the command line."""
    named = pcbench.check("numpy", profile="smoke", seed=1, laws=LAWS)
    given = pcbench.check(NumpyPCN(), profile="smoke", seed=1, laws=LAWS)
    assert named.conforms
    assert named.failures == ()
    assert margins(named) == margins(given)
    assert given.header.implementation == "pcbench.adapters.numpy:NumpyPCN"
    assert (given.header.in_process, given.header.workers) == (True, 1)


def test_a_failure_says_who_what_and_how_to_see_it_again():
    """If this fails, an assertion in somebody's test suite does not say which law is broken."""
    report = pcbench.check(Twice, profile="smoke", seed=1, laws=LAWS)
    assert not report.conforms
    assert [v.law for v in report.failures] == ["energy.matches-definition"]
    shown = repr(report)
    assert "Twice" in shown.splitlines()[0] or "numpy" in shown.splitlines()[0]
    assert report.conclusion in shown
    assert "fail: energy.matches-definition" in shown
    page = report._repr_html_()
    assert "<b>fail</b>" in page
    assert report.failures[0].failure is not None
    assert html.escape(report.failures[0].failure.problem) in page
    assert not re.search(r"<(?!/?(div|p|b|table|thead|tbody|tr|th|td)>)", page), "something was not escaped"
    assert report.replay(report.failures[0]).startswith("pcbench.check(")
    assert report.to_json()["exit_code"] == 1


def test_a_law_may_be_given_alone():
    """If this fails, the letters of an id are taken for laws."""
    report = pcbench.check(NumpyPCN(), profile="smoke", seed=1, laws="energy.never-negative")
    assert [v.law for v in report.verdicts] == ["energy.never-negative"]


def test_known_failures_are_a_file_or_entries():
    """If this fails, what is known of a library cannot be said from Python."""
    entry = KnownFailure(law="energy.matches-definition", reason="r")
    report = pcbench.check(Twice, profile="smoke", seed=1, laws=LAWS, known_failures=[entry])
    assert report.conforms
    assert report.counts()["expected-failure"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"implementation": "nunpy"}, "did you mean 'numpy'"),
        ({"profile": "smok"}, "needed one of smoke, standard, thorough"),
        ({"laws": "enrgy.never-negative"}, "did you mean energy.never-negative"),
        ({"seed": -1}, "needed an integer from 0"),
        ({"timeout": 0}, "needed a positive number of seconds"),
        ({"workers": 0}, "needed an integer of at least 1"),
        ({"known_failures": "nothing.json"}, "needed a readable JSON file"),
        ({"python": "/no/such/python"}, "does not exist"),
        ({"implementation": object()}, "without predict, energy, infer"),
        ({"implementation": NumpyPCN(), "python": "python3"}, "is an object here"),
        ({"implementation": NumpyPCN(), "memory_limit": 100}, "is an object here"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(arguments, message):
    """If this fails, a misspelt argument ends in a traceback from deep inside, or is ignored."""
    settings = {"implementation": "numpy", "profile": "smoke", "seed": 1, "laws": LAWS, **arguments}
    with pytest.raises(UsageError, match=message):
        pcbench.check(settings.pop("implementation"), **settings)


def test_a_library_that_is_not_installed_is_named(elsewhere):
    """If this fails, a notebook shows the traceback of a process that is gone."""
    (elsewhere / "mine.py").write_text("import no_such_library\n")
    with pytest.raises(MissingLibraryError, match="needs the module 'no_such_library'"):
        pcbench.check("mine.py", profile="smoke", seed=1, laws=LAWS)


def test_an_interrupted_run_gives_what_was_judged():
    """If this fails, Ctrl-C in a notebook loses everything."""

    class Impatient(Progress):
        def verdict(self, verdict):
            raise KeyboardInterrupt

    report = pcbench.check(NumpyPCN(), profile="smoke", seed=1, laws=LAWS, progress=Impatient())
    assert report.header.partial == "interrupted"
    assert [v.outcome for v in report.verdicts] == ["pass", "not-run"]
    assert not report.conforms
