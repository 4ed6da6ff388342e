#!/usr/bin/env python
"""Mutation-test the laws: judge deliberately wrong implementations, and correct but unusual ones, by every law.

    python ci/mutants.py                       # standard profile, two processes; writes ci/kill-matrix.{json,md}
    python ci/mutants.py --only half-lost      # one of them, printed and not written
    python ci/mutants.py --named --kind architectures   # mutants by the laws that must kill them alone; printed
    python ci/mutants.py --named --through-worker       # the same in workers, as `pcbench check` runs them
    python ci/mutants.py --kind architectures  # CNNs and transformers, smoke profile; ci/kill-matrix-architectures.*
    python ci/mutants.py --journal FILE        # notes every implementation in FILE, and goes on where it stopped

Exit code 1 if a mutant survives, a law that should kill a mutant does not, a mutant breaks down instead of answering
wrongly (void), a correct implementation fails, or a law kills nothing.

The unmodified implementations, one of MLPs and one of CNNs and transformers, are judged first, and their failures end
the run. The problems that each law drew for them are the ones that everything with the same capabilities is asked. A
law need not be asked about a mutant whose changed methods it never calls: it would hear the same answers.

A law kills by what it measures.  Where an answer breaks the contract (a wrong shape, a NaN) before anything is
measured, that is noted apart, and only the laws of the contract get the credit.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pcbench.properties import judge_group, measure_problem
from pcbench.properties.judge import as_worst, describe

from pcbench.adapters.numpy import NumpyPCN
from pcbench.conformance.journal import fingerprint
from pcbench.errors import ImplementationError
from pcbench.laws import REGISTRY, Law, Measurement
from pcbench.laws.measuring import ladders
from pcbench.output import json_lines
from pcbench.problem import arrays
from pcbench.problem.architectures import AnyProblem, problem_from_line
from pcbench.report.evidence import BROKEN, Verdict, Worst, merge
from pcbench.report.profiles import Profile, profile_named
from pcbench.worker.isolation import open_subject
from pcbench.worker.subject import Subject

ROOT = Path(__file__).resolve().parent.parent
SIGNS = {"fail": "X", "contract": "c", "pass": ".", "inconclusive": "o", "not-applicable": " ", "untouched": "."}

PROFILES = {"mlp": "standard", "architectures": "smoke"}
"""Kinds of networks that are judged apart, and the profile of each: one call of an architecture takes far longer."""


@dataclass
class Row:
    """The verdicts of all laws on one implementation."""

    name: str
    outcomes: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[str]] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def laws_with(self, *outcomes: str) -> list[str]:
        """The laws with one of these outcomes, in the order of the registry."""
        return [law for law in REGISTRY if self.outcomes.get(law) in outcomes]


class Journal:
    """The rows of a run as they are made, for a run of the same settings and sources to go on.

    Without a `path` nothing is kept; a file of other sources is begun anew.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path, self._rows = path, dict[str, Row]()
        if path is None:
            return
        digest = hashlib.sha256(json.dumps([fingerprint(str(Path(__file__))), settings], sort_keys=True).encode())
        for source in sorted((ROOT / "tests" / "mutants").glob("*.py")):
            digest.update(source.read_bytes())
        with path.open("a+b") as file:
            header, *rows = json_lines.resume(file) or [None]
            if header == digest.hexdigest():
                self._rows = {task: Row(**row) for task, row in rows}
            else:
                file.truncate(0)
                json_lines.append(file, digest.hexdigest())

    def find(self, task: tuple[Any, ...]) -> Row | None:
        """The row of this task if it has been made before."""
        return self._rows.get(self._name(task))

    def add(self, task: tuple[Any, ...], row: Row) -> Row:
        """The row, which is on disk now."""
        if self._path is not None:
            with self._path.open("ab") as file:
                json_lines.append(file, [self._name(task), asdict(row)])
        return row

    @staticmethod
    def _name(task: tuple[Any, ...]) -> str:
        name, laws = task[:2]
        return f"{name} {next(iter(laws), '')}" if name == "control" else name


# ---- judging, in a process of its own -----------------------------------------------------------------------------


def mutants_package() -> Any:
    """The package of mutants, which lives with the tests."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module("tests.laws.mutants")


def factory(name: str) -> Callable[[], Any]:
    """A mutant or an odd variant by name."""
    package = mutants_package()
    return (package.MUTANTS.get(name) or package.ODD[name]).factory


def control_of(law: Law) -> type:
    """The unmodified implementation of the kind of network that a law judges."""
    return NumpyPCN if law.domain.kind == "mlp" else mutants_package().PlainArchitectures


def base_of(cls: Any) -> type | None:
    """The unmodified implementation that a class is a subclass of."""
    bases = (NumpyPCN, mutants_package().PlainArchitectures)
    return next((b for b in bases if isinstance(cls, type) and issubclass(cls, b)), None)


def tracing_class(called: set[str], base: type = NumpyPCN) -> type:
    """An unmodified implementation noting the names of the methods that are called."""

    def wrap_method(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return method(*args, **kwargs)

        return wrapper

    methods = {name: wrap_method(name, value) for name, value in vars(base).items() if callable(value)}
    return type("Traced", (base,), methods)


def changed_methods(cls: Any) -> set[str] | None:
    """The methods of its base that a subclass replaces; None if it may differ in any answer."""
    base = base_of(cls)
    if base is None:
        return None
    names = {name for each in cls.__mro__[: cls.__mro__.index(base)] for name in vars(each)}
    new = {n for n in names if callable(getattr(cls, n, None)) and not n.startswith("__") and n not in vars(base)}
    return None if new or names & {"manifest", "__getattribute__"} else names


def draws_alike(implementation: Any) -> bool:
    """Whether laws draw the same problems for an implementation as for the control, which its capabilities decide."""
    silent = {"reports_energy": False, "reports_gradients": False}
    controls = (NumpyPCN, mutants_package().PlainArchitectures)
    capabilities = replace(implementation.manifest.capabilities, **silent)
    return any(capabilities == control.manifest.capabilities for control in controls)


def through_worker(name: str) -> Subject:
    """A mutant in a process of its own, as `pcbench check` judges an implementation."""
    made: Any = factory(name)
    os.environ["PYTHONPATH"] = str(ROOT)  # what a worker of this interpreter inherits
    return open_subject(f"{made.__module__}:{made.__qualname__}")


def verdict_of_drawn(
    name: str, law: Law, how: Profile, seed: int, asked: list[str], called: set[str], worker: bool
) -> Verdict:
    """The verdict on problems that are drawn for this implementation; they are noted in `asked`.

    With `worker` it is in a process of its own, whose calls are not noted.  The groups end at the first failure, as a
    law does within a group.
    """

    def measure_noting(subject: Subject, problem: AnyProblem) -> Measurement:
        asked.append(problem.line())
        return law.measure(subject, problem)

    if name == "control":
        subject = mutants_package().register.subject_of(tracing_class(called, control_of(law)))
    elif worker:
        subject = through_worker(name)
    else:
        subject = mutants_package().register.subject_of(factory(name))
    parts = []
    missing = law.not_applicable_reason(subject)
    if missing:
        subject.close()
        return Verdict(law=law.id, outcome="not-applicable", message=missing)
    try:
        for group in [ladders.home_group(law.ladder, how.groups)] if law.ladder else range(how.groups):
            parts.append(judge_group(replace(law, measure=measure_noting), subject, how, seed, group))
            if parts[-1].outcome in BROKEN:
                break
    finally:
        subject.close()
    return merge(law.id, parts, how.needed_examples(law.ladder))


def verdict_of_asked(name: str, law: Law, how: Profile, asked: list[str]) -> Verdict:
    """The verdict on given problems, until the first failure."""
    subject, examples = mutants_package().register.subject_of(factory(name)), 0
    missing = law.not_applicable_reason(subject)
    if missing:
        return Verdict(law=law.id, outcome="not-applicable", message=missing)
    for line in asked:
        try:
            measurement = measure_problem(law, subject, problem_from_line(line))
        except ImplementationError as error:
            return Verdict(law=law.id, outcome="error", message=str(error), failure=Worst(problem=line))
        if measurement.failed:
            worst = as_worst(problem_from_line(line), measurement)
            return Verdict(law=law.id, outcome="fail", failure=worst, message=describe(measurement))
        examples += measurement.inconclusive is None
    return Verdict(
        law=law.id, outcome="pass" if examples >= how.needed_examples(law.ladder) else "inconclusive", examples=examples
    )


def remember_arrays() -> None:
    """Cache drawn arrays, since all mutants are asked the same problems and drawing takes half the time."""
    for name in ("normals", "matrices"):
        original = getattr(arrays, name)
        if "remembers" not in vars(original):
            setattr(arrays, name, _memoise(original))


def _memoise(draw: Callable[..., Any]) -> Callable[..., Any]:
    kept = functools.lru_cache(20000)(draw)

    def cached_draw(*arguments: Any) -> Any:
        return kept(*(tuple(a) if isinstance(a, list) else a for a in arguments))

    vars(cached_draw)["remembers"] = True
    return cached_draw


def judge_row(name: str, laws: Mapping[str, list[str] | None], how: Profile, seed: int, worker: bool = False) -> Row:
    """Some laws on one implementation, each on given problems, or on problems drawn for it where there are none."""
    row = Row(name)
    remember_arrays()
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for law, given in laws.items():
            began, asked, called = time.perf_counter(), [], set[str]()
            try:
                if given is None:
                    result = verdict_of_drawn(name, REGISTRY[law], how, seed, asked, called, worker)
                else:
                    result = verdict_of_asked(name, REGISTRY[law], how, given)
            except Exception as error:  # a law that breaks down has no power: it is reported, and the others go on
                last = asked[-1] if asked else ""
                text = f"the law raised {type(error).__name__}: {error}"
                result = Verdict(law=law, outcome="error", message=text, failure=Worst(problem=last))
            row.outcomes[law], row.seconds[law] = result.outcome, time.perf_counter() - began
            row.calls[law], row.asked[law] = sorted(called), asked
            if result.failure and "contract" in result.failure.details and not law.startswith("contract."):
                row.outcomes[law] = "contract"
            if result.outcome in BROKEN:
                row.problems[law], row.messages[law] = (result.failure or result.worst).problem, result.message
    return row


# ---- the run ---------------------------------------------------------------------------------------------------------


def end_with_the_parent() -> None:
    """Leave no process behind if the program is killed: siblings hold each other's pipes open and wait for ever."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def judge_in_processes(workers: int, tasks: list[tuple[Any, ...]], journal: Journal) -> Iterable[Row]:
    """`judge_row` of every task as it ends, in so many processes, or in this one for 0."""
    yield from filter(None, map(journal.find, tasks))
    tasks = [task for task in tasks if journal.find(task) is None]
    if workers < 1:
        yield from (journal.add(task, judge_row(*task)) for task in tasks)
        return
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_the_parent) as pool:
        running: dict[Future[Row], tuple[Any, ...]] = {pool.submit(judge_row, *task): task for task in tasks}
        for done in as_completed(running):
            yield journal.add(running[done], done.result())


def laws_of(kind: str) -> list[str]:
    """The laws about MLPs, or those about the other architectures."""
    return [name for name, law in REGISTRY.items() if (law.domain.kind == "mlp") == (kind == "mlp")]


def names_of(kind: str) -> list[str]:
    """The mutants and odd variants that are MLPs, or those that are not."""
    package = mutants_package()
    others = [n for n in (*package.MUTANTS, *package.ODD) if base_of(factory(n)) is package.PlainArchitectures]
    return [n for n in (*package.MUTANTS, *package.ODD) if (n in others) == (kind != "mlp")]


def run_control(kind: str, how: Profile, seed: int, workers: int, journal: Journal) -> Row:
    """Every law of a kind on the unmodified implementation, with the methods it called."""
    control = Row("control")
    for part in judge_in_processes(workers, [("control", {law: None}, how, seed) for law in laws_of(kind)], journal):
        for name in ("outcomes", "problems", "messages", "calls", "asked", "seconds"):
            getattr(control, name).update(getattr(part, name))
    return control


def run_all(names: list[str], control: Row, how: Profile, seed: int, workers: int, journal: Journal) -> list[Row]:
    """Every named implementation by every law that may see a difference from the control."""
    tasks = []
    for name in names:
        make = factory(name)
        changed, alike = changed_methods(make), draws_alike(make())
        laws = {
            law: control.asked[law] or None if alike else None
            for law in control.outcomes
            if changed is None or changed & set(control.calls[law])
        }
        tasks.append((name, laws, how, seed))
    # Mutants before variants, and the longest first, so that no process waits at the end.
    tasks.sort(key=lambda task: (task[0] in mutants_package().ODD, None not in task[1].values(), -len(task[1])))
    rows, mutants = [], mutants_package().MUTANTS
    for count, row in enumerate(judge_in_processes(workers, tasks, journal), start=1):
        for law in control.outcomes:
            row.outcomes.setdefault(law, "untouched")
        rows.append(row)
        killed = row.laws_with("fail")
        alarms = row.laws_with("fail", "contract", "error", "timeout")
        said = f"killed by {len(killed)} laws" if row.name in mutants else "odd: " + (", ".join(alarms) or "passes")
        print(f"[{count}/{len(tasks)}] {row.name:40s} {said}, {sum(row.seconds.values()):.1f} s", flush=True)
    return sorted(rows, key=lambda row: names.index(row.name))


def run_named(names: list[str], kind: str, how: Profile, seed: int, workers: int, worker: bool) -> int:
    """Every mutant by the laws that it names, on problems drawn for it; the exit code."""
    mutants = {name: m for name, m in mutants_package().MUTANTS.items() if name in names}
    tasks = [(name, dict.fromkeys(m.expected), how, seed, worker) for name, m in mutants.items()]
    killing, survived = set[str](), list[str]()
    for count, row in enumerate(judge_in_processes(workers, tasks, Journal(None, {})), start=1):
        killing |= set(row.laws_with("fail"))
        survived += [f"{row.name} survives {law}: {out}" for law, out in row.outcomes.items() if out != "fail"]
        print(f"[{count}/{len(tasks)}] {row.name:40s} {len(row.laws_with('fail'))} of {len(row.outcomes)}", flush=True)
    idle = [law for law in laws_of(kind) if law not in killing]
    print(
        "\n".join([*survived, *(f"law {law} kills nothing" for law in idle)])
        or "every mutant dies by every law it names"
    )
    return 1 if survived or idle else 0


def complaints(control: Row, rows: list[Row], complete: bool) -> list[str]:
    """Everything that makes the run fail, one sentence each."""
    package, found = mutants_package(), []
    for law in control.laws_with(*BROKEN, "contract"):
        found.append(f"control fails {law}: {control.messages[law]} on {control.problems[law]}")
    kills: dict[str, list[str]] = {law: [] for law in control.outcomes}
    for row in rows:
        void = row.laws_with("error", "timeout")
        if row.name in package.ODD:
            for law in (*row.laws_with("fail", "contract"), *void):
                found.append(f"correct variant {row.name} fails {law}: {row.messages[law]} on {row.problems[law]}")
            continue
        for law in row.laws_with("fail"):
            kills[law].append(row.name)
        for law in void:
            found.append(f"mutant {row.name} is void for {law}: {row.messages[law]}")
        if not row.laws_with("fail"):
            found.append(f"mutant {row.name} survives")
        for law in package.MUTANTS[row.name].expected:
            if row.outcomes[law] != "fail":
                found.append(f"mutant {row.name} should be killed by {law}, whose outcome is {row.outcomes[law]}")
    if complete:
        found += [f"law {law} kills nothing" for law, names in kills.items() if not names]
    return found


# ---- the matrix ------------------------------------------------------------------------------------------------------


def as_data(kind: str, control: Row, rows: list[Row], how: Profile, seed: int) -> dict[str, Any]:
    """The kill matrix as plain data; nothing in it depends on the machine's speed."""
    package = mutants_package()
    mutants = [row for row in rows if row.name in package.MUTANTS]
    laws = {}
    for law in (law for law in REGISTRY if law in control.outcomes):
        killed = [row.name for row in mutants if row.outcomes[law] == "fail"]
        alone = [row.name for row in mutants if row.laws_with("fail") == [law]]
        laws[law] = {"kills": len(killed), "exclusive": alone, "killed": killed, "control": control.outcomes[law]}
    return {
        "kind": kind,
        "profile": how.name,
        "examples": how.examples,
        "seed": seed,
        "laws": laws,
        "mutants": {
            row.name: {
                "description": package.MUTANTS[row.name].description,
                "expected": list(package.MUTANTS[row.name].expected),
                "killed_by": row.laws_with("fail"),
                "inconclusive": row.laws_with("inconclusive"),
            }
            for row in mutants
        },
        "odd": {
            row.name: {
                "description": package.ODD[row.name].description,
                "failed": row.laws_with("fail", "contract", "error", "timeout"),
                "passed": len(row.laws_with("pass", "untouched")),
                "inconclusive": row.laws_with("inconclusive"),
                "not_applicable": len(row.laws_with("not-applicable")),
            }
            for row in rows
            if row.name in package.ODD
        },
    }


def as_markdown(data: dict[str, Any], rows: list[Row], found: list[str]) -> str:
    """The kill matrix for a reader."""
    by_name = {row.name: row for row in rows}
    killed = sum(bool(m["killed_by"]) for m in data["mutants"].values())
    lines = [
        "# Kill matrix",
        "",
        f"Generated by `ci/mutants.py --kind {data['kind']}` (profile `{data['profile']}`, {data['examples']} examples "
        f"per law, seed {data['seed']}). {killed} of {len(data['mutants'])} wrong implementations are killed; "
        f"{sum(not o['failed'] for o in data['odd'].values())} of {len(data['odd'])} odd but correct ones pass; "
        f"{sum(bool(v['kills']) for v in data['laws'].values())} of {len(data['laws'])} laws kill at least one.",
        "",
        *(["## Complaints", "", *(f"- {text}" for text in found), ""] if found else []),
        "## Laws",
        "",
        "| no. | law | kills | of these, no other law kills |",
        "| ---: | --- | ---: | --- |",
        *(
            f"| {k} | `{law}` | {v['kills']} | {', '.join(v['exclusive'])} |"
            for k, (law, v) in enumerate(data["laws"].items(), start=1)
        ),
        "",
        "## Mutants",
        "",
        "| mutant | defect | must die by | killed by |",
        "| --- | --- | --- | ---: |",
        *(
            f"| {name} | {m['description']} | {', '.join(f'`{e}`' for e in m['expected'])} | {len(m['killed_by'])} |"
            for name, m in data["mutants"].items()
        ),
        "",
        "## Correct but odd",
        "",
        "| variant | what is odd | laws passed | inconclusive | not applicable |",
        "| --- | --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {o['description']} | {o['passed']} | {len(o['inconclusive'])} | {o['not_applicable']} |"
            for name, o in data["odd"].items()
        ),
        "",
        "## Matrix",
        "",
        "Columns are the laws by number. `X` killed, `.` passed, `o` inconclusive, `c` contract broken before anything "
        "was measured, `!` broke down, blank not applicable.",
        "",
        "```text",
        " " * 40 + "".join(f"{k // 10 or ' '}" for k in range(1, len(data["laws"]) + 1)),
        " " * 40 + "".join(f"{k % 10}" for k in range(1, len(data["laws"]) + 1)),
        *(
            (f"{name:40s}" + "".join(SIGNS.get(by_name[name].outcomes[law], "!") for law in data["laws"])).rstrip()
            for name in data["mutants"]
        ),
        "```",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run and report; the exit code."""
    known = {kind: names_of(kind) for kind in PROFILES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="mlp", choices=PROFILES, help="kind of networks (default: mlp)")
    parser.add_argument("--profile", help="number of examples per law (default: standard, for architectures smoke)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=2, help="number of processes (default: 2; 0 runs in this process)"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="judge only this mutant or odd variant; repeatable"
    )
    parser.add_argument(
        "--named", action="store_true", help="ask only the laws that must kill a mutant, and no control"
    )
    parser.add_argument(
        "--through-worker", action="store_true", help="with --named: each mutant in a worker of its own"
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="file to write every row to, and to resume from")
    parser.add_argument("--output", type=Path, default=ROOT / "ci", help="folder of the two files (default: ci)")
    options = parser.parse_args(arguments)
    how, began = replace(profile_named(options.profile or PROFILES[options.kind]), shrink=False), time.perf_counter()
    unknown = set(options.only or ()) - set(known[options.kind])
    if unknown:
        parser.error(f"--only {', '.join(sorted(unknown))}: needed one of {', '.join(known[options.kind])}")

    if options.journal and options.named:
        parser.error("--journal keeps whole rows: leave out --named")
    if options.through_worker and not options.named:
        parser.error("--through-worker judges each mutant by the laws that must kill it: add --named")

    names = options.only or known[options.kind]
    if options.named:
        return run_named(names, options.kind, how, options.seed, options.workers, options.through_worker)
    journal = Journal(options.journal, {"kind": options.kind, "profile": asdict(how), "seed": options.seed})
    control = run_control(options.kind, how, options.seed, options.workers, journal)
    print(f"control: {len(control.laws_with('pass'))} laws pass, {sum(control.seconds.values()):.0f} s", flush=True)
    for law in sorted(control.seconds, key=lambda law: -control.seconds[law])[:10]:
        print(f"    {law:50s} {control.seconds[law]:.1f} s", flush=True)
    broken = complaints(control, [], False)
    if broken:
        print("\n".join(broken))
        return 1

    rows = run_all(names, control, how, options.seed, options.workers, journal)
    found = complaints(control, rows, complete=not options.only)
    if options.only:
        for row in rows:
            print(f"{row.name}: killed by {', '.join(row.laws_with('fail')) or 'no law'}")
    else:
        data = as_data(options.kind, control, rows, how, options.seed)
        options.output.mkdir(parents=True, exist_ok=True)
        name = "kill-matrix" if options.kind == "mlp" else f"kill-matrix-{options.kind}"
        (options.output / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
        (options.output / f"{name}.md").write_text(as_markdown(data, rows, found))
    print("\n".join(found) or "every mutant dies as expected, every correct variant lives, every law kills")
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
