r"""Run the gate's own measurements and laws, from one copy of pcbench, on the implementation of a commit.

Old commits lack today's laws and today's measurements, and a gate whose ruler changes with what it measures measures
nothing.  So both sides are driven by the pcbench that runs the gate, copied once, so that editing it meanwhile changes
nothing.  Of the commit come the implementation and everything it imports.  Where the repository is pcbench itself, that
is `pcbench.adapters` and `pcbench.reference`: the protocol (layers 0, 1 and 3) is the gate's on both sides, and an old
commit whose adapter does not fit today's protocol ends as an error that says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcbench.errors import AdapterError, UsageError, WorkerCrashError, WorkerTimeoutError
from pcbench.worker import process as processes

SHIM = '''"""Written by `pcbench gate`: the implementation of one commit, behind the protocol of the gate's pcbench."""

import sys

sys.path[:0] = {paths!r}
import pcbench

if {own!r}:
    pcbench.__path__[:] = {own!r}
from pcbench.protocol.loading import load

implementation = load({spec!r})
'''
_JUDGED = re.compile(r"^\[(\d+)/(\d+)\] ")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side as its processes see it: a label, the file that loads its implementation, and where that must lie.

    `root` is the checkout, `sources` the directories in it that hold packages.
    """

    label: str
    spec: str
    root: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Harness:
    """The copy of pcbench that drives both sides.

    **Arguments:** `directory` with the copy and scratch files; `python`, the interpreter of the implementation, None
    for this one; `threads` of the numerical libraries; `timeout` of one measuring process in
    seconds; `clock`, see `measure.CLOCKS`; `extra` variables of the environment.
    """

    directory: Path
    python: str | None = None
    threads: int = 1
    timeout: float = 600.0
    clock: str = "wall"
    extra: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Environment of every process: the copy first on the path, programs compiled anew, Python bytecode kept."""
        env = processes.environment(self.python is None, self.threads, None)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.directory), env.get("PYTHONPATH", "")]))
        for name in ("JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):
            env.pop(name, None)
        return {**env, **self.extra}

    def measure(self, side: Side, tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What one fresh process of a side reports of some tasks (see `measure`).

        **Raises:** `UsageError` if nothing of the side's own files was loaded; `AdapterError`, `WorkerCrashError` or
        `WorkerTimeoutError` if the process ends without an answer.
        """
        request = {
            "spec": side.spec,
            "tasks": [{**task, "clock": self.clock} for task in tasks],
            "clock": self.clock,
            "root": side.root,
            "sources": side.sources,
        }
        path = self.directory / "request.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        python = processes.resolve_interpreter(self.python)
        command = [python, "-m", "pcbench.timing.measure", str(path)]
        code, output, errors = self._run(command, self.timeout)
        if code:
            last = processes.last_words(errors)
            kind = AdapterError if code > 0 else WorkerCrashError
            raise kind(f"the measuring process of {side.label} {processes.ending(code, errors)}{last}", errors)
        try:
            answer = json.loads(output)
        except ValueError:
            raise WorkerCrashError(f"the measuring process of {side.label} printed no JSON: {output!r:.200}") from None
        if not answer["loaded"] or answer["shadowed"]:
            what = f"package {', '.join(answer['shadowed'])}" if answer["shadowed"] else "module"
            raise UsageError(
                f"no {what} of {side.label} was loaded from its checkout {side.root}: an installed copy is in the way, "
                "so both sides would be the same code. Give --source with the directory that holds the package"
            )
        return answer

    def check(
        self, side: Side, profile: str, seed: int, laws: Sequence[str], known_failures: str | None,
        progress: Callable[[int, int], None],
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON report of `pcbench check` of a side; `progress` is told how many laws of how many are judged.

        **Raises:** `AdapterError` if it wrote none.
        """
        path = self.directory / f"conformance-{side.label}.json"
        path.unlink(missing_ok=True)  # an earlier report must not stand for one that was not written
        command = [
            sys.executable,
            "-m",
            "pcbench.cli.main",
            "check",
            side.spec,
            "--profile",
            profile,
            "--seed",
            str(seed),
        ]
        command += ["--fresh", "--json", str(path)]
        command += [word for law in laws for word in ("--laws", law)]
        command += ["--known-failures", os.path.abspath(known_failures)] if known_failures else []
        command += ["--python", processes.resolve_interpreter(self.python)] if self.python else []

        def line(text: str) -> None:
            if match := _JUDGED.match(text):
                progress(int(match[1]), int(match[2]))

        code, output, errors = self._run(command, None, line)
        if not path.exists():
            said = (errors or output).strip().splitlines()[-3:]
            raise AdapterError(f"the conformance of {side.label} ended with {code} and no report: {' | '.join(said)}")
        return json.loads(path.read_text(encoding="utf-8"))

    def _run(
        self, command: list[str], timeout: float | None, line: Callable[[str], None] | None = None
    ) -> tuple[int, str, str]:
        """A process in a group of its own, of which nothing is left however this ends."""
        scratch = self.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        with tempfile.TemporaryFile("w+", dir=scratch) as errors:
            process = processes.start(
                command, cwd=scratch, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=errors, text=True,
            )  # fmt: skip
            try:
                if line is None:
                    output, _ = process.communicate(timeout=timeout)
                else:
                    assert process.stdout is not None  # for the type checker; it is a pipe
                    output = ""
                    for text in process.stdout:
                        output += text
                        line(text)
                code = process.wait()
            except subprocess.TimeoutExpired:
                raise WorkerTimeoutError(f"`{command[2]}` did not end within {timeout:g} s") from None
            finally:
                processes.end(process, grace=5.0)  # a conformance run has runners of its own to end
                if process.stdout is not None:
                    process.stdout.close()
            errors.seek(0)
            return code, output, errors.read()


@contextmanager
def open_harness(**settings: Any) -> Iterator[Harness]:
    """A harness in a temporary directory that is gone at the end; `settings` as for `Harness`."""
    with tempfile.TemporaryDirectory(prefix="pcbench-gate-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        package = Path(__file__).resolve().parent.parent
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, directory / "pcbench", ignore=ignore)
        beside = package.parent / "properties"  # in a checkout; an installation has it inside the package
        if not (directory / "pcbench" / "properties").exists():
            found = importlib.util.find_spec("pcbench.properties")
            places = list(found.submodule_search_locations or []) if found else []
            source = beside if beside.is_dir() else Path(places[0])
            shutil.copytree(source, directory / "pcbench" / "properties", ignore=ignore)
        yield Harness(directory=directory, **settings)


def lacks(root: Path, implementation: str) -> bool:
    """Whether `implementation`, a spec, is a file of a commit that the checkout `root` does not have."""
    place = implementation.partition(":")[0]
    return place.endswith(".py") and not os.path.isabs(place) and not (root / place).is_file()


def side(harness: Harness, label: str, root: Path, implementation: str, sources: Sequence[str] = ()) -> Side:
    """The side of a checkout: writes the file that loads `implementation`, a spec, from it.

    `sources` are directories below `root` that hold packages; by default `root` itself and `src` if there is one.  A
    spec that is a relative path is taken below `root`, an absolute one as it is, on both sides.

    **Raises:** `UsageError` for directories or files that the checkout lacks.
    """
    folders = list(sources) or (["src", "."] if (root / "src").is_dir() else ["."])
    missing = [name for name in folders if not (root / name).is_dir()]
    if missing:
        raise UsageError(f"--source {', '.join(missing)} does not exist in {label}: needed directories of the checkout")
    paths = [str((root / name).resolve()) for name in folders]
    own = [str(path) for folder in paths if (path := Path(folder, "pcbench", "adapters")).is_dir()]
    place, colon, attribute = implementation.partition(":")
    if lacks(root, implementation):
        raise UsageError(f"implementation {place!r} does not exist in {label}: needed a file of that commit")
    if place.endswith(".py") and not os.path.isabs(place):
        implementation = str((root / place).resolve()) + colon + attribute
    text = SHIM.format(paths=paths, own=[str(Path(path).parent) for path in own], spec=implementation)
    file = harness.directory / f"{label}.py"
    file.write_text(text, encoding="utf-8")
    return Side(label=label, spec=f"{file}:implementation", root=str(root.resolve()), sources=tuple(paths))
