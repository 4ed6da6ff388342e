"""Tables and sentences that `readme.py` writes into pages, made from the code and the committed reports.

Every function gives the text of one part.  All but `profiles` stand in docs/, so links are relative to that folder.
"""

from __future__ import annotations

import ast
import csv
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from house import read_house
from readme_links import slug

CI = Path(__file__).resolve().parent
REPORTS = CI / "reports"

GROUPS = {
    "contract": "Any answer: its shape, that it depends on the question alone, and that nothing is hidden.",
    "energy": "The energy, at any activities.",
    "feedforward": "The feedforward pass, from which inference starts.",
    "gradient": "The gradients of the energy, for weights and for activities, at any activities.",
    "inference": "Gradient descent on the activities, step by step.",
    "symmetry": "What may be changed in a network without changing its energy.",
    "stability": "Which steps of inference are stable, and the Hessian that decides it.",
    "equilibrium": "Where inference ends: closed forms of linear networks, certificates, and gradients there.",
    "saddle": "The saddle of the energy at zero weights.",
    "learning": "Updates of the weights, and the variants that are backpropagation by construction.",
    "precision": "Float32 beside float64, and what must not be compiled again.",
    "limit": "The limits of infinite width and depth, as exponents and constants over many random networks.",
    "architecture": "Residual CNNs and transformers, for implementations that claim them.",
}
"""What the laws of a group are about."""

_SETTINGS = {
    "activations": "activations",
    "placements": "placement of the activation",
    "losses": "loss",
    "dtypes": "dtype",
    "residual": "residual connections",
    "parameterisations": "parameterisation",
    "weight_laws": "weights",
    "weight_scales": "scale of the weights",
    "data_laws": "data",
    "data_scales": "scale of the data",
    "output_precisions": "output precision",
    "output_multipliers": "output multiplier",
}


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |\n"


def _escape(text: str) -> str:
    return re.sub(r"([*_<>])", r"\\\1", text)


def _fill(text: str, indent: str = "") -> str:
    """The text in lines of at most 118 characters, none of which Markdown would take for the start of a list."""
    return textwrap.fill(text, 118, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False) + "\n"


# ---- from the code --------------------------------------------------------------------------------------------------


def laws() -> str:
    """Everything about every law but its code, by group; the id of each is a heading."""
    from pcbench.laws import REGISTRY

    kills = _kills()
    text = f"There are {len(REGISTRY)} laws.\n"
    for group, members in groupby(REGISTRY.values(), key=lambda law: law.id.partition(".")[0]):
        text += f"\n## {group}\n\n{GROUPS[group]}\n"
        for law in members:
            text += f"\n### `{law.id}`\n\n{_escape(law.statement)}\n\n"
            text += "".join(f"- *{name}*: {value}\n" for name, value in _law_facts(law, kills.get(law.id, {})) if value)
    return text


def _law_facts(law: Any, kills: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What the page of laws says below the statement of one."""
    yield "Source", _escape(law.citation)
    yield "A failure usually means", _escape(law.failing_means)
    yield "Needs", ", ".join(f"`{name}`" for name in sorted(law.needs)) or "nothing beyond the protocol"
    yield "Judged on", _domain(law)
    yield "Depends on", ", ".join(f"[`{id}`](#{slug(id)})" for id in law.depends_on)
    alone = ", ".join(f"`{name}`" for name in kills.get("exclusive", ()))
    count = kills.get("kills", 0)
    yield (
        "Wrong implementations that it finds",
        f"{count}" + (f", and it alone {alone}" if alone else "") if count else "",
    )


def _domain(law: Any) -> str:
    """The problems of a law in words: what differs from all problems there are."""
    from pcbench.laws import Domain

    usual, own = asdict(Domain()), asdict(law.domain)
    kinds = {"mlp": "", "cnn": "residual CNNs", "transformer": "transformers"}
    said = [kinds[law.domain.kind]]
    if law.ladder:
        said.append(f"random networks of growing size, the ladder `{law.ladder}`")
    for name, label in _SETTINGS.items():
        if own[name] != usual[name]:
            said.append(f"{label} {', '.join(map(_value, own[name]))}")
    low, high = law.domain.depth
    if own["depth"] != usual["depth"]:
        said.append(f"at least {low} layers" if high == usual["depth"][1] else f"{low} to {high} layers")
    if own["steps"] != usual["steps"]:
        said.append("{} to {} steps".format(*law.domain.steps))
    for name, words in (
        ("batch", "at least {} samples"),
        ("output_dim", "at least {} outputs"),
        ("hidden_units", "at most {} hidden units"),
        ("scalar_output", "one output"),
        ("square", "more hidden units than outputs"),
        ("large", "networks much wider than deep"),
    ):
        if own[name] != usual[name]:
            said.append(words.format(own[name]))
    return "; ".join(filter(None, said)) or "all problems"


def _value(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _kills() -> dict[str, dict[str, Any]]:
    """What the committed kill matrices say of each law."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("kill-matrix.json", "kill-matrix-architectures.json"):
        path = CI / name
        found |= json.loads(path.read_text(encoding="utf-8"))["laws"] if path.exists() else {}
    return found


def profiles() -> str:
    """How much evidence each profile gathers, in a sentence."""
    from pcbench.report.profiles import PROFILES

    counts = ", ".join(f"{p.examples} (`{p.name}`)" for p in PROFILES.values())
    least = ", ".join(str(p.minimum) for p in PROFILES.values())
    return _fill(
        f"The profile says how many problems each law is judged on: {counts}. A law on which fewer than {least} of "
        "them decide anything is inconclusive."
    )


def conventions() -> str:
    """The fields of `Conventions` with the values each may take, the default first."""
    from pcbench.protocol import implementation

    default = implementation.Conventions()
    text = _row("convention", "default", "other values") + _row("---", "---", "---")
    for item in fields(default):
        value = getattr(default, item.name)
        others = [f"`{v}`" for v in implementation.CHOICES.get(item.name, ()) if v != value]
        text += _row(f"`{item.name}`", f"`{value}`", ", ".join(others) or "any number but 0")
    return text


def exit_codes() -> str:
    """The exit codes of `pcbench check`, from its own help."""
    from pcbench.cli.check import EXIT_CODES

    return _codes(EXIT_CODES, "check")


def gate_exit_codes() -> str:
    """The exit codes of the gate, from its own help."""
    from pcbench.gate.outcome import EXIT_CODES

    return _codes(EXIT_CODES, "gate")


def _codes(help_text: str, name: str) -> str:
    text = help_text.replace("\b\n", "").strip().replace("Exit codes:", f"Exit codes of `pcbench {name}`:")
    return f"```text\n{text}\n```\n"


def gate_rows() -> str:
    """What the gate compares, in a sentence."""
    from pcbench.gate.rows import ROWS

    return _fill("Rows: " + ", ".join(f"`{name}`" for name in ROWS) + ".")


def commands() -> str:
    """Every command with what its help says first."""
    from pcbench.cli.main import main

    text = _row("command", "what it does") + _row("---", "---")
    for name, command in sorted(main.commands.items()):
        first = inspect.cleandoc(command.help or "").split("\n\n")[0]
        text += _row(f"`pcbench {name}`", _escape(" ".join(first.split())))
    return text


def public_names() -> str:
    """The names of `pcbench`, each with the summary of its docstring; the site puts the whole docstring there."""
    import pcbench

    own = {name: getattr(pcbench, name) for name in dir(pcbench) if not name.startswith("_")}
    names = [f"pcbench.{n}" for n, v in own.items() if str(getattr(v, "__module__", "")).startswith("pcbench.")]
    text = ""
    for name in [*names, "pcbench.plugin.Conformance"]:
        text += f"\n### `{name}`\n\n<!-- autodoc: {name} -->\n{_summary(name)}<!-- end autodoc -->\n"
    return text.lstrip("\n")


def error_names() -> str:
    """The exceptions, each with what it also is and its summary."""
    from pcbench import errors

    text = _row("exception", "is a", "raised for") + _row("---", "---", "---")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.PcbenchError):
            bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__)
            text += _row(f"`{name}`", bases, _markdown(inspect.getdoc(value) or ""))
    return text


def _summary(name: str) -> str:
    module, _, last = name.rpartition(".")
    value = getattr(__import__(module, fromlist=[last]), last)
    return _fill(_markdown(inspect.cleandoc(value.__doc__ or "")))


def _markdown(docstring: str) -> str:
    r"""The first paragraph of a docstring, its formulas between dollars in place of \( and \)."""
    return re.sub(r"\\\((.*?)\\\)", r"$\1$", " ".join(docstring.split("\n\n")[0].split()))


# ---- from the committed reports -------------------------------------------------------------------------------------


def gate_power() -> str:
    """The head of the committed count of the gate's own errors."""
    return _head("reports/gate.md", "The count of the gate's errors")


def libraries() -> str:
    """Who was judged in the committed compliance matrix, and with which conclusion."""
    text = (REPORTS / "matrix" / "matrix.md").read_text(encoding="utf-8")
    made, table = text.split("\n\n")[1:3]
    rows = ["|".join(row.split("|")[:7]) + "|\n" for row in table.splitlines()]  # how long it took is left out
    where = "Every law, margin and replay: [ci/reports/matrix/matrix.md](../ci/reports/matrix/matrix.md)."
    return f"{made}\n\n{''.join(rows)}\n{where}\n"


def leaderboard() -> str:
    """Sample-steps a second of the committed leaderboard, a row a problem and a column an implementation."""
    with (REPORTS / "bench" / "bench.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    text = _row("problem", "dtype", *names) + _row("---", "---", *["---:" for _ in names])
    for (problem, dtype), members in groupby(rows, key=lambda row: (row["problem"], row["dtype"])):
        speeds = {row["implementation"]: _thousands(row["sample_steps"]) or row["outcome"] for row in members}
        text += _row(problem, dtype, *(speeds.get(name, "") for name in names))
    report = (REPORTS / "bench" / "bench.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^- (machine|run|command): (.*)$", report, re.M))
    return f"{text}\nMade by `{said['command']}`: {said['run']}; {said['machine']}.\n"


def _thousands(number: str) -> str:
    return f"{float(number) / 1e3:,.3g} k" if number and float(number) < 1e6 else f"{float(number or 0) / 1e6:.3g} M"


def power() -> str:
    """The heads of the two kill matrices."""
    of = {"kill-matrix.md": "The kill matrix", "kill-matrix-architectures.md": "That of CNNs and transformers"}
    return "\n".join(_head(name, what) for name, what in of.items())


def false_alarms() -> str:
    """The heads of the two committed counts of false alarms."""
    of = {"reports/seeds.md": "Every seed", "reports/limits.md": "Every seed"}
    return "\n".join(_head(name, what) for name, what in of.items())


def worker_cost() -> str:
    """The head of the committed measurement of what a call through a worker costs."""
    return _head("reports/worker.md", "Every size")


def exponents() -> str:
    """The exponents of the committed run of `pcbench scaling`, a row a network."""
    from pcbench.experiments.scaling.exponents import DISTANCES, ENERGY_EXCESS, ERROR, MISS
    from pcbench.output.table import read_rows

    found: dict[str, dict[str, str]] = {}
    for row in read_rows(REPORTS / "scaling" / "exponents.csv"):
        found.setdefault(row["network"], {})[row["quantity"]] = (
            f"{row['measured']:.2f}\u00a0±\u00a0{row['interval']:.2f}"
        )
    lines = [
        _row("exponent of N, 95 % interval", *map(_escape, (ENERGY_EXCESS, ERROR, MISS))),
        _row("---", "---", "---", "---"),
    ]
    lines.append(_row("theory", "-1", "-1", "-2"))
    training = found.pop("linear, residual, in training", {})
    lines += [
        _row(network, *(values.get(q, "") for q in (ENERGY_EXCESS, ERROR, MISS))) for network, values in found.items()
    ]
    said = ", ".join(f"{name} {training[name]} (theory {theory:g})" for name, theory in DISTANCES if name in training)
    return "".join(lines) + (f"\nLosses in training, largest distance: {said}.\n" if said else "")


def speed() -> str:
    """The head of the committed speed table."""
    return _head("reports/speed.md", "The speed table")


def _head(name: str, what: str) -> str:
    """What a file in `ci/` says between its title and its next heading or table, and a link to the rest."""
    path = CI / name
    if not path.exists():
        return f"{what} has not been committed yet.\n"
    text = re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8"))
    head = re.split(r"^(?:#|\|)", text, maxsplit=1, flags=re.M)[0].strip()
    return f"{head}\n\n{what}: [ci/{name}](../ci/{name}).\n"


def storeys() -> str:
    """Every package with its storey and the first line of its docstring, lowest first."""
    house = read_house(CI.parent)
    text = "| storey | package | what it holds |\n| ---: | --- | --- |\n"
    for k, row in enumerate(house.storeys):
        for name in row:
            module = ast.parse(house.modules[f"pcbench.{name}"].read_text(encoding="utf-8"))
            first = (ast.get_docstring(module) or "").split("\n")[0].rstrip(".")
            text += f"| {k} | `{name}` | {first} |\n"
    return text


TABLES: dict[str, Callable[[], str]] = {
    "laws": laws,
    "profiles": profiles,
    "conventions": conventions,
    "commands": commands,
    "public names": public_names,
    "exceptions": error_names,
    "exit codes": exit_codes,
    "gate rows": gate_rows,
    "gate exit codes": gate_exit_codes,
    "gate power": gate_power,
    "libraries": libraries,
    "leaderboard": leaderboard,
    "power": power,
    "false alarms": false_alarms,
    "worker cost": worker_cost,
    "speed": speed,
    "exponents": exponents,
    "storeys": storeys,
}
