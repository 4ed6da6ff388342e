"""The pytest plugin: `pytest --pcn IMPL` runs every law as one test, for people who live in pytest.

It does nothing without `--pcn`, and imports nothing heavy before: pytest loads it in every session of every project
that has pcbench installed.
"""

from __future__ import annotations

import importlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcbench.evidence import Verdict
    from pcbench.known_failures import KnownFailure
    from pcbench.laws.base import Law
    from pcbench.report import Report
    from pcbench.subject import Subject

_PROPERTY = "pcbench-verdict"
_SKIPPED = ("not-applicable", "blocked")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of which begin with `--pcn`."""
    group = parser.getgroup("pcbench", "conformance of predictive coding networks")
    group.addoption("--pcn", metavar="IMPL", help="adapter, package.module:attribute or path.py: one test per law")
    group.addoption("--pcn-python", metavar="PATH", help="interpreter that has the library under test")
    group.addoption("--pcn-profile", default="standard", metavar="P", help="smoke, standard (default) or thorough")
    group.addoption("--pcn-seed", type=int, metavar="N", help="of all problems; drawn and printed if not given")
    group.addoption("--pcn-laws", action="append", default=[], metavar="LAWS", help="ids, groups or wildcards, commas")
    group.addoption("--pcn-timeout", type=float, default=120.0, metavar="S", help="seconds for one call (120)")
    group.addoption("--pcn-known-failures", metavar="FILE", help="failures that are expected, as for `pcbench check`")
    group.addoption("--pcn-only", action="store_true", help="collect no other tests")


def pytest_configure(config: pytest.Config) -> None:
    """Check names and numbers, so that a misspelt one is a usage error and not a test."""
    if config.option.pcn is None:
        return
    from pcbench.errors import PcbenchError

    try:
        # xdist hands the options of the controller to its workers: the seed is drawn once, here.
        if config.option.pcn_seed is None:
            config.option.pcn_seed = secrets.randbits(32)
        config.stash[_STATE] = _State(config)
    except PcbenchError as error:
        raise pytest.UsageError(f"--pcn: {error}") from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the implementation; one that cannot start is a usage error, told once."""
    state = session.config.stash.get(_STATE, None)
    if state is None:
        return
    from pcbench.errors import PcbenchError

    try:
        state.start()
    except PcbenchError as error:
        raise pytest.UsageError(f"--pcn: {error}") from None
    if _is_xdist_controller(session.config):
        state.close()  # it was started for its manifest; the workers have their own


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the implementation's processes."""
    state = config.stash.get(_STATE, None)
    if state is not None:
        state.close()


def pytest_ignore_collect(collection_path: Any, config: pytest.Config) -> bool | None:
    """Leave out everything else if `--pcn-only` is given."""
    return True if config.option.pcn is not None and config.option.pcn_only else None


@pytest.hookimpl(tryfirst=True)  # before pytest applies -k and -m, which shall work on laws too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for every law, in the order of the register and under the same id in every process."""
    state = config.stash.get(_STATE, None)
    if state is None:
        return
    parent = LawCollector.from_parent(session, name="pcn", nodeid="pcn")
    items.extend(parent.collect())


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is tested, and the seed that repeats it."""
    state = config.stash.get(_STATE, None)
    return None if state is None else f"pcbench: {state.name}, profile {state.profile.name}, seed {state.seed}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every law with its margin, the totals, and the seed; of all processes, if there were several."""
    state = config.stash.get(_STATE, None)
    if state is None:
        return
    reports = [r for group in terminalreporter.stats.values() for r in group if getattr(r, "when", "") == "call"]
    verdicts = state.known(_verdicts_of(reports))
    if not verdicts:
        return
    from pcbench.report_text import number

    report = state.report(verdicts)
    write = terminalreporter.write_line
    terminalreporter.section("pcbench")
    width = max(len(v.law) for v in verdicts)
    for v in report.verdicts:
        judged = bool(v.examples or v.failure)
        shown = f"{number(v.worst.margin):>8}  {v.worst.problem}" if judged else f"{'':>8}  {v.message}"
        write(f"{v.law:<{width}}  {v.outcome:<16}  {shown}".rstrip())
    write(f"{report.summary}; profile {state.profile.name}, seed {state.seed} (--pcn-seed {state.seed})")


def _verdicts_of(reports: Iterable[Any]) -> list[Verdict]:
    from pcbench.report import read_verdict

    found = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == _PROPERTY:
                verdict = read_verdict(json.loads(value))
                found[verdict.law] = verdict
    return list(found.values())


def _is_xdist_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput") and getattr(config.option, "dist", "no") != "no"


class LawBrokenError(Exception):
    """A law that did not pass; the text is the whole explanation."""


class LawCollector(pytest.Collector):
    """The laws, as a collector beside the files of the session."""

    def collect(self) -> Sequence[pytest.Item]:
        """One item for each law."""
        state = self.config.stash[_STATE]
        return [LawItem.from_parent(self, name=law.id) for law in state.laws]


class LawItem(pytest.Item):
    """One law as a test: all its groups of examples, judged in this process."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._state = self.config.stash[_STATE]
        entry = self._state.expected.get(self.name)
        if entry is not None:
            self.add_marker(pytest.mark.xfail(reason=entry.note, raises=LawBrokenError, strict=True))

    def runtest(self) -> None:
        """Judge the law, leaving the evidence in the report of the test."""
        from pcbench.judging import plain
        from pcbench.report_text import explanation

        verdict = self._state.verdict(self.name)
        self.user_properties.append((_PROPERTY, json.dumps(plain(verdict.to_json()))))
        if verdict.outcome in _SKIPPED:
            pytest.skip(f"{verdict.outcome}: {verdict.message}")
        if verdict.outcome != "pass":
            report = self._state.report([verdict])
            lines = (f"  {name}: {value}" for name, value in explanation(report, verdict))
            raise LawBrokenError("\n".join([f"{verdict.outcome}: {self.name}", *lines]))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The explanation without a traceback, which would only show pcbench."""
        if isinstance(excinfo.value, LawBrokenError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Where the test is: nowhere in particular."""
        return self.path, None, f"law {self.name}"


class _State:
    """What one pytest process knows: options, laws, the implementation, and the verdicts so far."""

    def __init__(self, config: pytest.Config) -> None:
        from pcbench import adapters, known_failures, profiles
        from pcbench.errors import UsageError
        from pcbench.laws import REGISTRY, select

        option = config.option
        self.impl, self.timeout = option.pcn, option.pcn_timeout
        self.spec, self.python = adapters.chosen(option.pcn, option.pcn_python)
        self.profile = profiles.profile(option.pcn_profile)
        self.seed: int = option.pcn_seed
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"seed {self.seed}: needed an integer from 0 to 2**64 - 1")
        if not self.timeout > 0:
            raise UsageError(f"timeout {self.timeout}: needed a positive number of seconds")
        patterns = [word.strip() for text in option.pcn_laws for word in text.split(",") if word.strip()]
        if option.pcn_laws and not patterns:
            raise UsageError("--pcn-laws names no law; `pcbench laws` lists them")
        self.laws: list[Law] = select(patterns)
        file = option.pcn_known_failures
        entries = known_failures.read(file, list(REGISTRY)) if file else []
        chosen = {law.id for law in self.laws}
        self.expected: dict[str, KnownFailure] = {entry.law: entry for entry in entries if entry.law in chosen}
        self.subject: Subject | None = None
        self.manifest: dict[str, Any] = {}
        self._verdicts: dict[str, Verdict] = {}

    @property
    def name(self) -> str:
        """The implementation, with its version if it has been started."""
        return " ".join(w for w in (self.manifest.get("name", self.impl), self.manifest.get("version", "")) if w)

    def start(self) -> None:
        """Start the implementation, and refuse known failures that are stale."""
        from pcbench.judging import open_subject
        from pcbench.known_failures import check_current
        from pcbench.limits import Limits

        self.subject = open_subject(self.spec, python=self.python, limits=Limits(call_seconds=self.timeout))
        self.manifest = self.subject.manifest.to_json()
        missing = {law.id: reason for law in self.laws if (reason := law.missing(self.subject)) is not None}
        check_current(list(self.expected.values()), self.manifest["library"], self.manifest["version"], missing)

    def close(self) -> None:
        """End the implementation's processes."""
        if self.subject is not None:
            self.subject.close()
            self.subject = None

    def verdict(self, id: str) -> Verdict:
        """The verdict on a law.

        What it depends on is judged first, by this process, whichever tests are run here: so that it does not depend
        on how tests are spread over processes whether a law is blocked.
        """
        if id not in self._verdicts:
            self._verdicts[id] = self._judge(id)
        return self._verdicts[id]

    def _judge(self, id: str) -> Verdict:
        from pcbench.evidence import BROKEN, Verdict, merge
        from pcbench.judging import ENGINE, judge_one
        from pcbench.laws import REGISTRY, transitive_dependencies

        assert self.subject is not None
        law, before = REGISTRY[id], transitive_dependencies(id)
        reason = law.missing(self.subject)
        if reason is not None:
            return Verdict(law=id, outcome="not-applicable", message=reason)
        roots = [other.id for other in self.laws if other.id in before and self.verdict(other.id).outcome in BROKEN]
        if roots:
            return Verdict(law=id, outcome="blocked", message=f"depends on {', '.join(sorted(roots))}")
        engine = importlib.import_module(ENGINE)
        groups = range(self.profile.groups)
        parts = [judge_one(engine, law, self.subject, self.profile.name, self.seed, group, {}) for group in groups]
        return merge(id, parts, self.profile.needed(REGISTRY[id].ladder))

    def known(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts in the order of the register, with known failures expected."""
        from pcbench.known_failures import apply

        order = [law.id for law in self.laws]
        return apply(sorted(verdicts, key=lambda v: order.index(v.law)), list(self.expected.values()))

    def report(self, verdicts: Sequence[Verdict]) -> Report:
        """These verdicts as a report."""
        from pcbench.laws import REGISTRY
        from pcbench.laws.statistics import budget
        from pcbench.report import LawText, Report, RunHeader
        from pcbench.runner import law_set_hash
        from pcbench.version import __version__

        laws = [REGISTRY[v.law] for v in verdicts]
        return Report(
            header=RunHeader(
                pcbench=__version__,
                law_set=law_set_hash(),
                implementation=self.impl,
                spec=self.spec,
                interpreter=self.python or "",
                manifest=self.manifest,
                profile=self.profile.name,
                seed=self.seed,
                error_budget=budget() if any(law.estimates for law in self.laws) else "",
            ),
            laws=tuple(
                LawText(id=w.id, statement=w.statement, citation=w.citation, failing_means=w.failing_means)
                for w in laws
            ),
            verdicts=tuple(verdicts),
            known=tuple(self.expected.values()),
        )


_STATE = pytest.StashKey[_State]()
