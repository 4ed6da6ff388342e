"""Exponents measured in the tables of `pcbench scaling`, on rows made from power laws."""

import pytest

from pcbench.experiments.scaling import exponents as scaling_exponents


def rows(**fixed):
    """Rows of networks whose quantities are power laws of the width, bent below N = 8 L as finite networks are."""
    made = []
    for width in (4, 8, 32, 64, 128, 256):
        for repeat in range(2):
            law = 7.0 if width < 8 * fixed.get("depth", 1) else 1.0
            made.append(
                {
                    "width": width, "repeat": repeat, "certified": True, "gap": law * 3 / width,
                    "gradient_error": law * 2 / width, "misalignment": law / width**2, **fixed,
                }
            )  # fmt: skip
    return made


def test_exponents_are_those_of_the_wide_networks():
    """If this fails, widths outside the limit, or networks away from equilibrium, are counted in the exponents."""
    linear = rows(parameterisation="mupc", residual=True, depth=4)
    lost = [{**r, "certified": False, "gap": 1.0, "gradient_error": 1.0, "misalignment": 1.0} for r in linear]
    others = rows(parameterisation="ntp", residual=True, depth=4)
    table = scaling_exponents.exponent_rows({"initialisation": [*linear, *lost, *others]})
    assert [(r["network"], r["quantity"]) for r in table] == [
        ("linear, residual, L = 4", name) for _, name, _ in scaling_exponents.QUANTITIES
    ]
    for row in table:
        assert row["measured"] == pytest.approx(row["theory"], abs=1e-9)
        assert row["interval"] == pytest.approx(0, abs=1e-7)


def test_networks_without_a_depth_are_fitted_from_width_8():
    """If this fails, CNNs and transformers have no exponents, or those of their narrowest."""
    table = scaling_exponents.exponent_rows({"architectures": rows(parameterisation="mupc", architecture="cnn")})
    assert [round(r["measured"], 6) for r in table] == [-1, -1, -2]
    assert {r["network"] for r in table} == {"cnn"}


def test_distances_of_losses_in_training():
    """If this fails, the rates at which training tends to its limit are of other distances."""
    limit = [{"task": "limit", "update": t, "pc_loss": 1.0 / (1 + t)} for t in range(3)]
    toy = [
        {"task": "toy", "width": n, "repeat": k, "update": t,
         "pc_loss": 1.0 / (1 + t) + t * n**-0.5, "bp_loss": 1.0 / (1 + t) + t * n**-0.5 - t / n}
        for n in (16, 64, 256) for k in range(2) for t in range(3)
    ]  # fmt: skip
    far = scaling_exponents.distances([*limit, *toy])
    assert len(far) == 6
    assert far[0] == pytest.approx(
        {"width": 16, "PC from the limit": 0.5, "BP from the limit": 0.375, "PC from BP": 0.125}
    )
    measured = {r["quantity"]: r["measured"] for r in scaling_exponents.exponent_rows({"training": [*limit, *toy]})}
    assert measured["PC from the limit"] == pytest.approx(-0.5)
    assert measured["PC from BP"] == pytest.approx(-1)


def test_nothing_is_told_of_too_few_points():
    """If this fails, a line through two points is printed as an exponent with an interval."""
    assert (
        scaling_exponents.exponent_rows({"initialisation": rows(parameterisation="mupc", residual=True, depth=40)})
        == []
    )
