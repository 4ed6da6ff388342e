"""The pytest plugin: run every law as one test.

`pytest --pcn IMPL` adds the laws to any session.  A test module that belongs to a library says so itself, by a global
`laws = Conformance("my_adapter.py")`, whatever its name.  The plugin does nothing else, and imports nothing heavy
before: pytest loads it in every session of every project that has pcbench installed.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcbench.conformance.session import Session
    from pcbench.report.evidence import Verdict

_PROPERTY = "pcbench-verdict"
_SKIPPED = ("not-applicable", "blocked")
_QUIET = ("pass", "not-applicable")


@dataclass(frozen=True)
class Conformance:
    """The laws of an implementation as tests of the module that has this object as a global, one test for each law.

    **Arguments:** `implementation` and the options of `pcbench check`; the paths of an adapter and of a file of
    `known_failures` are relative to the module.  Without a `seed` every session sees new problems.  What is given on
    the command line, `--pcn-profile`, `--pcn-seed`, `--pcn-laws`, `--pcn-python`, goes before what is given here.
    """

    implementation: str
    _: KW_ONLY
    known_failures: str | None = None
    profile: str = "standard"
    seed: int | None = None
    laws: Sequence[str] = ()
    python: str | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of which begin with `--pcn`."""
    group = parser.getgroup("pcbench", "conformance of predictive coding networks")
    group.addoption(
        "--pcn", metavar="IMPL", help="implementation to judge: adapter, package.module:attribute or path.py"
    )
    group.addoption("--pcn-python", metavar="PATH", help="interpreter that has the library under test")
    group.addoption(
        "--pcn-profile", metavar="P", help="number of examples per law: smoke, standard (default) or thorough"
    )
    group.addoption("--pcn-seed", type=int, metavar="N", help="seed of all problems; drawn and printed if not given")
    group.addoption(
        "--pcn-laws",
        action="append",
        default=[],
        metavar="LAWS",
        help="laws to judge: ids, groups or wildcards, comma-separated; repeatable",
    )
    group.addoption(
        "--pcn-timeout", type=float, metavar="S", help="longest time of one call, in seconds (default: 120)"
    )
    group.addoption(
        "--pcn-known-failures", metavar="FILE", help="JSON file of failures to expect, as for `pcbench check`"
    )
    group.addoption("--pcn-only", action="store_true", help="collect only the laws, no other tests")


def pytest_configure(config: pytest.Config) -> None:
    """Check names and numbers, so that a misspelt one is a usage error and not a test."""
    # xdist hands the options of the controller to its workers: what is not given is drawn once, here.
    if not hasattr(config.option, "pcn_drawn"):
        config.option.pcn_drawn = secrets.randbits(32)
    config.stash[_SESSIONS] = []
    if config.option.pcn is None:
        return
    from pcbench.errors import PcbenchError

    try:
        config.stash[_OWN] = _session(config, Conformance(config.option.pcn), "")
    except PcbenchError as error:
        raise pytest.UsageError(f"--pcn: {error}") from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the implementation; one that cannot start is a usage error, told once."""
    own = session.config.stash.get(_OWN, None)
    if own is None:
        return
    from pcbench.errors import PcbenchError, error_text

    try:
        own.start()
    except PcbenchError as error:
        raise pytest.UsageError(f"--pcn: {error_text(error)}") from None
    if _is_xdist_controller(session.config):
        own.close()  # it was started for its manifest; the workers have their own


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the implementations' processes."""
    for session in config.stash.get(_SESSIONS, []):
        session.close()


def pytest_ignore_collect(collection_path: Any, config: pytest.Config) -> bool | None:
    """Leave out everything else if `--pcn-only` is given."""
    return True if config.option.pcn is not None and config.option.pcn_only else None


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> pytest.Collector | None:
    """The laws of a `Conformance` that a test module has as a global."""
    return LawCollector.from_parent(collector, name=name, conformance=obj) if isinstance(obj, Conformance) else None


@pytest.hookimpl(tryfirst=True)  # before pytest applies -k and -m, which shall work on laws too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for every law of `--pcn`, in the order of the register and under the same id in every process."""
    own = config.stash.get(_OWN, None)
    if own is None:
        return
    parent = LawCollector.from_parent(session, name="pcn", nodeid="pcn", judging=own)
    items.extend(parent.collect())


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is tested, and the seed that repeats it."""
    own = config.stash.get(_OWN, None)
    return None if own is None else f"pcbench: {own.description}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every law with its margin, the totals, and the seed; of all processes, if there were several.

    With `-q` the laws that hold are left out.
    """
    reports = [r for group in terminalreporter.stats.values() for r in group if getattr(r, "when", "") == "call"]
    write = terminalreporter.write_line
    for description, found in _verdicts_of(reports).items():
        from pcbench.conformance.session import law_texts
        from pcbench.laws import REGISTRY
        from pcbench.report.report import Report, RunHeader
        from pcbench.report.text import number

        terminalreporter.section("pcbench")
        verdicts = sorted(found, key=lambda v: list(REGISTRY).index(v.law))
        shown = [v for v in verdicts if config.option.verbose >= 0 or v.outcome not in _QUIET]
        width = max((len(v.law) for v in shown), default=0)
        for v in shown:
            judged = bool(v.examples or v.failure) and v.outcome != "unexpected-pass"
            text = f"{number(v.worst.margin):>8}  {v.worst.problem}" if judged else f"{'':>8}  {v.message}"
            write(f"{v.law:<{width}}  {v.outcome:<16}  {text}".rstrip())
        # Of verdicts that may come from several processes there is no header but this.
        header = RunHeader(pcbench="", law_set="", implementation="", spec="")
        report = Report(header=header, laws=law_texts(verdicts), verdicts=tuple(verdicts))
        write(f"{report.summary}; {description}")


def _verdicts_of(reports: Iterable[Any]) -> dict[str, list[Verdict]]:
    """The verdicts in the reports of tests, by what they are verdicts on."""
    from pcbench.report.report import read_verdict

    found: dict[str, list[Verdict]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == _PROPERTY:
                data = json.loads(value)
                found.setdefault(data["run"], []).append(read_verdict(data["verdict"]))
    return found


def _is_xdist_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput") and getattr(config.option, "dist", "no") != "no"


def _session(config: pytest.Config, conformance: Conformance, directory: str | Path) -> Session:
    """What `conformance`, found in `directory`, asks for, with the options of the command line before it."""
    from pcbench.conformance.plan import make_plan
    from pcbench.conformance.session import Session
    from pcbench.errors import UsageError
    from pcbench.worker.limits import CALL_SECONDS, Limits

    def beside_module(path: str) -> str:
        return os.path.relpath(os.path.join(directory, path)) if directory else path

    option, implementation = config.option, conformance.implementation
    patterns = [word.strip() for text in option.pcn_laws for word in text.split(",") if word.strip()]
    if option.pcn_laws and not patterns:
        raise UsageError("--pcn-laws names no law; `pcbench laws` lists them")
    file, colon, attribute = implementation.partition(":")
    seed = conformance.seed if option.pcn_seed is None else option.pcn_seed
    plan = make_plan(
        beside_module(file) + colon + attribute if file.endswith(".py") else implementation,
        profile=option.pcn_profile or conformance.profile,
        seed=option.pcn_drawn if seed is None else seed,
        laws=patterns or conformance.laws,
        python=option.pcn_python or conformance.python,
        known_failures=option.pcn_known_failures
        or (conformance.known_failures and beside_module(conformance.known_failures)),
        limits=Limits(call_seconds=CALL_SECONDS if option.pcn_timeout is None else option.pcn_timeout),
    )
    session = Session(plan)
    config.stash[_SESSIONS].append(session)
    return session


class LawBrokenError(Exception):
    """A law that did not pass; the text is the whole explanation."""


class LawCollector(pytest.Collector):
    """The laws of one implementation: in a test module, or beside the files of the session."""

    def __init__(
        self, *, conformance: Conformance | None = None, judging: Session | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._conformance, self.judging = conformance, judging

    def collect(self) -> Sequence[pytest.Item]:
        """One item for each law; an implementation that does not start is one error here, and not one for each law."""
        if self._conformance is not None and self.judging is None:
            from pcbench.errors import PcbenchError, error_text

            try:
                judging = _session(self.config, self._conformance, self.path.parent)
                judging.start()
            except PcbenchError as error:
                raise self.CollectError(f"pcbench: {error_text(error)}") from None
            self.judging = judging
        assert self.judging is not None
        return [LawItem.from_parent(self, name=law, judging=self.judging) for law in self.judging.plan.laws]


class LawItem(pytest.Item):
    """One law as a test: all its groups of examples, judged in this process."""

    def __init__(self, *, judging: Session, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._judging = judging

    def runtest(self) -> None:
        """Judge the law, leaving the evidence in the report of the test."""
        from pcbench.conformance.session import build_report
        from pcbench.output.strict_json import plain_data
        from pcbench.report.text import explanation

        judging = self._judging
        verdict = judging.verdict(self.name)
        evidence = {"run": judging.description, "verdict": plain_data(verdict.to_json())}
        self.user_properties.append((_PROPERTY, json.dumps(evidence)))
        if verdict.outcome in _SKIPPED:
            pytest.skip(f"{verdict.outcome}: {verdict.message}")
        if verdict.outcome == "expected-failure":
            pytest.xfail(next(entry.note for entry in judging.plan.known if entry.law == self.name))
        if verdict.outcome != "pass":
            report = build_report(judging.plan, judging.introduction, [verdict])
            lines = (f"  {name}: {value}" for name, value in explanation(report, verdict))
            raise LawBrokenError("\n".join([f"{verdict.outcome}: {self.name}", *lines]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The explanation without a traceback, which would only show pcbench."""
        if isinstance(excinfo.value, LawBrokenError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """The location of the test, which has none."""
        return self.path, None, f"law {self.name}"


_OWN = pytest.StashKey["Session"]()
"""What `--pcn` asks for."""
_SESSIONS = pytest.StashKey["list[Session]"]()
"""Everything that is judged in this session."""
