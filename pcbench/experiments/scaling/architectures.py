r"""Experiment: a CNN and a transformer of growing width, at initialisation and certified equilibrium.

Under `mupc` with readouts of order \(1/N\), as in an MLP, and under `mupc-limits`, the scalings of the paper's own
experiments, whose much smaller readouts bring the energy close to the loss at every width, so that little is left for
the limit of wide networks to do.  The gradients need not be as close: where activities are small as well, the
equilibrium moves them by a fraction that is not.

**References:** Innocenti, Achour and Bogacz 2026 (arXiv 2602.07697), Figure 4 (CNN, transformer).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pcbench.experiments.scaling import alignment, images
from pcbench.experiments.scaling.options import Options, network_seed
from pcbench.experiments.sweep import Point
from pcbench.output.table import Row
from pcbench.problem import arrays
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.reference.architectures.models import chain_of

PARAMETERISATIONS = ("mupc", "mupc-limits")
TOKENS_NAME = "stand-in (a permutation of random tokens)"


@dataclass(frozen=True)
class Sizes:
    """Sizes of a CNN (`stages`, `blocks` in each) or of a transformer, beside the width."""

    widths: tuple[int, ...]
    batch: int
    blocks: int
    stages: int = 0
    tokens: int = 0
    heads: int = 0
    vocabulary: int = 0


CNN = Sizes(widths=(2, 4, 8, 16), batch=8, stages=2, blocks=1)
TRANSFORMER = Sizes(widths=(8, 16, 32, 64), batch=8, blocks=2, tokens=8, heads=2, vocabulary=16)
CNN_OF_THE_PAPER = Sizes(widths=(2, 8, 16, 32, 64), batch=128, stages=3, blocks=1)
TRANSFORMER_OF_THE_PAPER = Sizes(
    widths=(8, 16, 32, 64, 128, 256, 512), batch=128, blocks=12, tokens=32, heads=8, vocabulary=65
)


def points(options: Options) -> list[Point]:
    """Both architectures and parameterisations at their own widths; those of the paper on an accelerator."""
    chosen = {
        "cnn": CNN_OF_THE_PAPER if options.accelerator else CNN,
        "transformer": TRANSFORMER_OF_THE_PAPER if options.accelerator else TRANSFORMER,
    }
    found = []
    for architecture, sizes in chosen.items():
        settings = {k: v for k, v in asdict(sizes).items() if k != "widths" and v}
        for parameterisation in PARAMETERISATIONS:
            found += [
                {
                    "architecture": architecture,
                    "parameterisation": parameterisation,
                    "width": width,
                    "repeats": options.repeats,
                    "seed": options.seed,
                    "data": options.data if architecture == "cnn" else None,
                    **settings,
                }
                for width in sizes.widths
            ]
    return found


def measure_point(point: Point) -> list[Row]:
    """A row for each network."""
    rows = []
    for repeat in range(point["repeats"]):
        seed = network_seed(point["seed"], point["architecture"], point["width"], repeat)
        name, chain, x, y = (_cnn if point["architecture"] == "cnn" else _transformer)(point, seed)
        found = alignment.compare_chain(chain, x, y, tolerance=1e-12)
        rows.append(
            {
                "data": name,
                "architecture": point["architecture"],
                "parameterisation": point["parameterisation"],
                "width": point["width"],
                "layers": chain.depth,
                "repeat": repeat,
                **found.row(*alignment.COLUMNS),
            }
        )
    return rows


def _cnn(point: Point, seed: int) -> tuple[str, Any, np.ndarray, np.ndarray]:
    data = images.load(point["data"], batch=point["batch"], seed=point["seed"])
    side, channels = data.shape[0], data.shape[2]
    pad = -side % 2 ** point["stages"]  # 28 x 28 pixels are not halved three times
    pictures = np.pad(data.pictures, ((0, 0), (0, pad), (0, pad), (0, 0)))
    problem = ArchitectureProblem(
        kind="cnn",
        seed=seed,
        batch=point["batch"],
        side=side + pad,
        channels=channels,
        width=point["width"],
        stages=point["stages"],
        blocks=point["blocks"],
        classes=data.target.shape[1],
        parameterisation=point["parameterisation"],
    )
    return data.name, chain_of(problem.architecture()), pictures, data.target


def _transformer(point: Point, seed: int) -> tuple[str, Any, np.ndarray, np.ndarray]:
    batch, tokens, vocabulary = point["batch"], point["tokens"], point["vocabulary"]
    words = arrays.uniform(point["seed"], "tokens", batch, tokens)
    x = np.minimum((words * vocabulary).astype(np.int32), vocabulary - 1)
    y = np.eye(vocabulary)[arrays.permutation(point["seed"], "next token", vocabulary)[x]]
    problem = ArchitectureProblem(
        kind="transformer",
        activation="gelu",
        loss="ce",
        seed=seed,
        batch=batch,
        tokens=tokens,
        width=point["width"],
        blocks=point["blocks"],
        heads=point["heads"],
        outputs=vocabulary,
        vocabulary=vocabulary,
        parameterisation=point["parameterisation"],
    )
    return TOKENS_NAME, chain_of(problem.architecture()), x, y
