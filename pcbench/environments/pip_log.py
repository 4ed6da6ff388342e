"""Explain a failed installation from pip's log: the requirement at fault, and which Python would do.

pip's messages are written for people and change between its versions; what is not understood here is quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

_UNSATISFIED = re.compile(
    r"^ERROR: Could not find a version that satisfies the requirement (?P<what>.+?)"
    r"(?: \(from (?!versions)(?P<by>[^()]+)\))? \(from versions: (?P<versions>.*)\)$",
    re.M,
)
_OTHER_PYTHON = re.compile(r"(?P<version>\S+) Requires-Python (?P<python>[^;\n]+)")
_OTHER_PYTHONS = "Ignored the following versions that require a different python version: "
_WRONG_PYTHON = re.compile(
    r"^ERROR: Package '(?P<what>[^']+)' requires a different Python: \S+ not in '(?P<python>[^']+)'", re.M
)
_CONFLICT = re.compile(r"^The conflict is caused by:\n(?P<lines>(?: +.+\n)+)", re.M)
_UNBUILT = re.compile(
    r"^ *(?:ERROR: )?Failed (?:building wheel for|to build) '?(?P<what>[^'\n]+?)'?(?: when .*)?$", re.M
)
_OUTPUT = re.compile(r"lines of output\]\n(?P<lines>.*?)\[end of output\]", re.S)
_TELLING = re.compile(r"^(?!Command |note:).*\b(?:[Ee]rror|fatal)\b:? ", re.M)
_NO_CONNECTION = re.compile(
    r"connection broken by|NewConnectionError|Failed to establish|Temporary failure in name resolution|ReadTimeoutError"
)
_FULL = re.compile(r"\[Errno 28\]|No space left on device")


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an installation failed.

    **Arguments:** `what`, in a sentence without full stop; `python`, the versions of Python that would do, as a
    specifier such as `>=3.12`, empty if another Python is no remedy; `remedy`, what else to do, empty if unknown.
    """

    what: str
    python: str = ""
    remedy: str = ""


def cause(log: str, python: str) -> Cause:
    """The cause of a failed installation under Python of version `python`, from everything pip printed."""
    log = "\n".join(line.rstrip() for line in log.splitlines()) + "\n"
    readers = (_full_disk, _wrong_python, _conflict, _missing_release, _fetch_failure, _build_failure)
    found = (reader(log, python) for reader in readers)
    return next((item for item in found if item is not None), Cause(what=_last_error(log)))


def _full_disk(log: str, python: str) -> Cause | None:
    if not _FULL.search(log):
        return None
    return Cause(what="there is no space left on the disk", remedy="make room, there or where TMPDIR points")


def _wrong_python(log: str, python: str) -> Cause | None:
    match = _WRONG_PYTHON.search(log)
    if match is None:
        return None
    return Cause(what=f"{match['what']} declares Python {match['python']}", python=match["python"])


def _conflict(log: str, python: str) -> Cause | None:
    match = _CONFLICT.search(log)
    if match is None:
        return None
    lines = list(dict.fromkeys(line.strip() for line in match["lines"].splitlines()))
    # A request for any version contradicts nothing, so what is left cannot be had at all.
    bounds = [line for line in lines if not re.fullmatch(r"The user requested [\w.-]+", line)]
    if len(bounds) == 1 and (alone := re.fullmatch(r"(?P<by>\S+ \S+) depends on (?P<what>.+)", bounds[0])):
        return Cause(
            what=f"nothing that Python {python} can have fits {alone['what']} (needed by {alone['by']})",
            remedy="another Python may do (--python PATH)",
        )
    lines = [re.sub(r"^The user requested ", "pcbench asks for ", line) for line in lines]
    return Cause(what=f"requirements contradict each other: {'; '.join(lines)}")


def _missing_release(log: str, python: str) -> Cause | None:
    match = None
    for match in _UNSATISFIED.finditer(log):  # noqa: B007 (the last is the one that pip gave up on)
        pass
    if match is None:
        return None
    what, by = match["what"], match["by"]
    needed = f"{what} (needed by {by.replace('->', ' -> ')})" if by else what
    wanted = _requirement(what)
    elsewhere = [
        (version, other.strip().rstrip(";"))
        for line in log.splitlines()
        if _OTHER_PYTHONS in line
        for version, other in _OTHER_PYTHON.findall(line.partition(_OTHER_PYTHONS)[2])
        if wanted is not None and _satisfies(version, wanted.specifier)
    ]
    if elsewhere:
        newest = max(elsewhere, key=lambda pair: Version(pair[0]))
        return Cause(what=f"{needed} has no release for Python {python}", python=newest[1])
    versions = [v.strip() for v in match["versions"].split(",") if v.strip() not in ("", "none")]
    if versions:
        which = f"the newest is {versions[-1]}"
        return Cause(what=f"no release of {wanted.name if wanted else what} fits {needed}: {which}")
    if _NO_CONNECTION.search(log):
        return Cause(what=f"the package index could not be reached for {needed}", remedy=_CONNECT)
    return Cause(what=f"no package index has {needed} for Python {python}", remedy=_CONNECT)


_CONNECT = "look whether pip can reach a package index; a mirror is named with PIP_INDEX_URL"


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _satisfies(version: str, specifier: SpecifierSet) -> bool:
    try:
        return specifier.contains(Version(version), prereleases=False)
    except (InvalidVersion, InvalidSpecifier):
        return False


def _fetch_failure(log: str, python: str) -> Cause | None:
    """A URL that a version control system could not get."""
    if not re.search(r"git (?:clone|fetch|checkout|rev-parse)\b.* did not run successfully", log):
        return None
    told = [line.strip() for line in log.splitlines() if line.strip().startswith(("fatal:", "error: pathspec"))]
    why = f": {told[0].partition(': ')[2]}" if told else ""
    return Cause(what=f"git could not fetch the source{why}", remedy="look at the URL, and whether it can be reached")


def _build_failure(log: str, python: str) -> Cause | None:
    """A package that had to be built, and could not be; what the compiler or the build said first is the cause."""
    names = [m["what"] for m in _UNBUILT.finditer(log)]
    output = _OUTPUT.search(log)
    if not names and output is None:
        return None
    lines = [line.strip(" │") for line in output["lines"].splitlines()] if output else []
    errors = [line for line in lines if _TELLING.match(line)]
    why = f": {errors[0]}" if errors else f": {lines[-1]}" if lines else ""
    if not why and (told := re.search(r"╰─> (.+)", log)):
        why = f": {told[1]}"
    name = names[0] if names else "a package"
    return Cause(
        what=f"{name} could not be built{why}",
        remedy="the log says what is missing; where no wheel fits this Python, another may do (--python PATH)",
    )


def _last_error(log: str) -> str:
    """What pip said in the end, for what is not understood."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.partition(" ")[2] for line in lines if re.match(r"(ERROR|error): (?!Exception:$)", line)]
    chosen = errors[-1] if errors else lines[-1] if lines else "pip printed nothing"
    return chosen[:300]
