"""Catalogue of the virtual environments of libraries under test: what each needs and where it is kept.

`pcbench env create` makes one (`pcbench.environments.make`); an adapter whose environment is there runs in it.
Several adapters may share one.  This module is data and reading: it also runs in the interpreters of libraries, so
standard library only, Python 3.10 or later.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pcbench.errors import UsageError
from pcbench.worker.provenance import RECORD, short_commit

Version = tuple[int, int]

PLACE = "PCBENCH_ENVIRONMENTS"
"""The environment variable that names the folder of all environments."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an environment needs, as the authors of its library declare it.

    **Arguments:** `name` on the command line; `library`, the distribution that it is for, and `module`, the name it is
    imported by; `requirements`, what pip is given, the library itself first; `source`, an address of the library if
    no package index has it, in pip's form, else empty; `python` and `below`, the oldest Python that can have it and the
    first that cannot, with the reason in `why`.
    """

    name: str
    library: str
    module: str
    requirements: tuple[str, ...]
    source: str = ""
    python: Version = (3, 10)
    below: Version | None = None
    why: str = ""

    def fits(self, version: Version) -> bool:
        """Whether a Python of this version can have the library."""
        return self.python <= version and (self.below is None or version < self.below)

    @property
    def pythons(self) -> str:
        """The versions of Python that can have it, in words."""
        last = f" and before {format_version(self.below)}" if self.below else ""
        return f"Python {format_version(self.python)} or later{last}"

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"pcbench env create {self.name}" + (" PATH_OR_URL" if self.source else "")


def format_version(version: Version) -> str:
    """A version as text, such as 3.11."""
    return ".".join(map(str, version))


def _table(*environments: Environment) -> dict[str, Environment]:
    return {environment.name: environment for environment in environments}


ENVIRONMENTS: dict[str, Environment] = _table(
    Environment(
        name="jpc",
        library="jpc",
        module="jpc",
        requirements=("jpc",),
        # By commit, because its number 1.0.0 covers hundreds of them with different interfaces.
        source="git+https://github.com/thebuckleylab/jpc@7d6cc05742d28b543311e6c4d4ca140ba996f8b5",
        python=(3, 10),
        below=(3, 14),
        why="it declares jax>=0.4.38,<=0.5.2, which has no release for others",
    ),
    Environment(
        name="pcx",
        library="pcx",
        module="pcx",
        requirements=("pcx==0.6.3",),
        python=(3, 11),
        below=(3, 14),
        why="it declares Python >=3.11 and jax<0.5, which has no release for 3.14",
    ),
    Environment(
        name="ngclearn",
        library="ngclearn",
        module="ngclearn",
        requirements=("ngclearn==3.2.3",),
        python=(3, 12),
        why="it declares numpy>=2.5.2, which has no release for older ones, although its own metadata allows 3.10",
    ),
    Environment(
        name="fabricpc",
        library="fabricpc",
        module="fabricpc",
        requirements=("fabricpc==0.6.0",),
        python=(3, 11),
        why="it declares Python >=3.11",
    ),
    Environment(
        name="torch",
        library="torch",
        module="torch",
        # NumPy is not among PyTorch's own requirements, and pcbench's worker needs it.  The others are what the PyTorch
        # repositories import besides: they are checkouts, to be added with `pcbench env add`.
        requirements=("torch", "numpy", "scipy", "tqdm", "pandas", "matplotlib", "seaborn"),
        python=(3, 10),
        why="it declares Python >=3.10",
    ),
)
"""The environments that pcbench can make, by name."""


def find_environment(name: str) -> Environment:
    """The environment of that name.

    **Raises:** `UsageError` if there is none.
    """
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    close = difflib.get_close_matches(name.lower(), ENVIRONMENTS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"environment {name!r} is not known{hint}. Known are {', '.join(ENVIRONMENTS)}")


# ---- where they are --------------------------------------------------------------------------------------------------


def environments_folder() -> Path:
    """The folder of all environments: that of PCBENCH_ENVIRONMENTS, else below the user's folder of data.

    **Raises:** `UsageError` for a relative path there, which would mean another folder in every directory.
    """
    given = os.environ.get(PLACE)
    if given:
        path = Path(given).expanduser()
        if not path.is_absolute():
            raise UsageError(f"{PLACE}={given!r}: needed an absolute path")
        return path
    data = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification has relative ones ignored
        return Path(data) / "pcbench" / "environments"
    data = "~/Library/Application Support" if sys.platform == "darwin" else "~/.local/share"
    return Path(data).expanduser() / "pcbench" / "environments"


def folder_of(name: str) -> Path:
    """The folder of one environment."""
    return environments_folder() / name


# ---- what was made ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """An environment that was made, as its record says; the record is written last, so what has one is complete.

    **Arguments:** `folder` beside the record that holds the virtual environment; `library` in `version`, from `source`
    (empty for the package index) at `commit` where that is known; `requirements`, what pip was given, and `packages`,
    what it took, by name; `python`, the version, and `base`, the interpreter it was made with; `added`, checkouts on
    its path, `path` and `commit` each; `made`, when, and in how many `seconds`; `bytes` on disk then; `pcbench`, the
    version that made it; `log` of pip.
    """

    name: str
    folder: str
    library: str
    version: str
    source: str = ""
    commit: str = ""
    requirements: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    base: str = ""
    added: tuple[Mapping[str, str], ...] = ()
    made: str = ""
    seconds: float = 0.0
    bytes: int = 0
    pcbench: str = ""
    log: str = ""

    @property
    def directory(self) -> Path:
        """The virtual environment."""
        return folder_of(self.name) / self.folder

    @property
    def interpreter(self) -> Path:
        """Its Python; the link is not followed, for it makes the virtual environment."""
        return self.directory / "bin" / "python"

    @property
    def description(self) -> str:
        """Library, version and commit, in a phrase."""
        return f"{self.library} {self.version}" + (f" at {short_commit(self.commit)}" if self.commit else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def read(name: str) -> Record | None:
    """The record of an environment, None if it was not made.

    **Raises:** `UsageError` for a record that cannot be read.
    """
    path = folder_of(name) / RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        values = {item.name: data[item.name] for item in fields(Record) if item.name in data}
        for several in ("requirements", "added"):
            values[several] = tuple(values.get(several, ()))
        record = Record(**values)
        if record.name != name or Path(record.folder).name != record.folder or not record.folder:
            raise ValueError(f"it is about {record.name!r} in {record.folder!r}")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the record {path} cannot be read ({type(error).__name__}: {error}): "
            f"make the environment anew with `{ENVIRONMENTS[name].command} --replace`"
        ) from None


def trouble(record: Record) -> str:
    """Why an environment that was made cannot be used any more, or an empty text."""
    if not record.directory.is_dir():
        return f"its folder {record.directory} is gone"
    if not os.access(record.interpreter, os.X_OK):  # follows the link
        target = os.path.realpath(record.interpreter)
        return f"its interpreter {target} is gone" if not os.path.exists(target) else f"{target} is not executable"
    return ""


def interpreter(name: str) -> str | None:
    """The Python of an environment, None if it was not made.

    **Raises:** `UsageError` for one that was made and is broken: to run in another interpreter without a word would
    judge another version of the library.
    """
    record = read(name)
    if record is None:
        return None
    why = trouble(record)
    if why:
        raise UsageError(
            f"environment {name!r} is broken: {why}. Make it anew with `{find_environment(name).command} --replace`, "
            f"or do without it: `pcbench env remove {name}`"
        )
    return str(record.interpreter)


def state(environment: Environment) -> tuple[str, Record | None]:
    """The state `ready`, `not made`, or `broken` and why; with the record if there is one that can be read."""
    try:
        record = read(environment.name)
    except UsageError as error:
        return f"broken: {error}", None
    if record is None:
        return "not made", None
    why = trouble(record)
    return (f"broken: {why}" if why else "ready"), record
