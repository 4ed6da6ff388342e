"""Manifests: what an adapter may claim, how it is refused, and there and back as JSON."""

# Values of wrong types are handed over on purpose.
# pyright: reportArgumentType=false

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import ManifestError
from pcbench.protocol import implementation as implementation_module
from pcbench.protocol.implementation import (
    OPTIONAL_METHODS,
    Capabilities,
    Conventions,
    Equilibrium,
    Inference,
    Manifest,
    methods_of,
)

CHOICES, SUBSETS = implementation_module.CHOICES, implementation_module._SUBSETS


def values_of(cls):
    """Every value that the fields of a class may take."""
    table = {}
    for field in fields(cls):
        if field.name in CHOICES:
            table[field.name] = st.sampled_from(CHOICES[field.name])
        elif field.name in SUBSETS:
            table[field.name] = st.lists(st.sampled_from(SUBSETS[field.name]), min_size=1, unique=True).map(tuple)
        elif field.name == "energy_factor":
            table[field.name] = st.floats(allow_nan=False, allow_infinity=False).filter(bool)
        else:
            table[field.name] = st.booleans()
    return st.builds(cls, **table)


manifests = st.builds(
    Manifest, name=st.text(), library=st.text(), version=st.text(), versions=st.dictionaries(st.text(), st.text()),
    url=st.text(), notes=st.lists(st.text()).map(tuple), capabilities=values_of(Capabilities),
    conventions=values_of(Conventions),
)  # fmt: skip


@given(manifests)
def test_manifests_there_and_back(manifest):
    """If this fails, the harness reads another manifest than the one the worker sent."""
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Capabilities(activations=("tanh", "sigmoid")),
            r"Capabilities\.activations=.*'sigmoid'.*: needed some",
        ),
        (lambda: Capabilities(activations=()), r"Capabilities\.activations=\(\): needed some of linear, tanh"),
        (lambda: Capabilities(losses="mae"), r"Capabilities\.losses=\('mae',\): needed some of mse, ce"),
        (lambda: Capabilities(dtypes=("float16",)), r"Capabilities\.dtypes=.*: needed some of float64, float32"),
        (lambda: Capabilities(placements=("inside",)), r"Capabilities\.placements=.*: needed some of before-weight"),
        (lambda: Capabilities(devices=("tpu",)), r"Capabilities\.devices=.*: needed some of cpu, gpu"),
        (lambda: Capabilities(architectures=("rnn",)), r"Capabilities\.architectures=.*: needed some of mlp"),
        (lambda: Capabilities(scalings="yes"), r"Capabilities\.scalings='yes': needed one of 'native', 'folded'"),
        (lambda: Capabilities(activations=None), r"Capabilities\.activations=\(None,\): needed some of linear"),
        (lambda: Capabilities(shapes="any"), r"Capabilities\.shapes='any': needed one of 'free', 'palette'"),
        (lambda: Capabilities(residual=1), r"Capabilities\.residual=1: needed True or False"),
        (lambda: Capabilities(precision="no"), r"Capabilities\.precision='no': needed True or False"),
        (lambda: Capabilities(zero_steps=None), r"Capabilities\.zero_steps=None: needed True or False"),
        (lambda: Conventions(step_size="batch"), r"Conventions\.step_size='batch': needed one of 'per-sample'"),
        (lambda: Conventions(gradient_sign=2), r"Conventions\.gradient_sign=2: needed one of 1, -1"),
        (lambda: Conventions(energy_lag=2), r"Conventions\.energy_lag=2: needed one of 0, 1"),
        (lambda: Conventions(energy_factor=0.0), r"Conventions\.energy_factor=0\.0: needed a number other than 0"),
        (lambda: Conventions(energy_factor=float("nan")), r"Conventions\.energy_factor=nan: needed a number"),
        (lambda: Conventions(energy_factor="2"), r"Conventions\.energy_factor='2': needed a number other than 0"),
        (lambda: Manifest.from_json({"name": "x", "colour": 1}), r"manifest not understood: .*colour"),
        (lambda: Manifest.from_json({"name": "x", "capabilities": {"time": 1}}), r"manifest not understood: .*time"),
        (lambda: Manifest.from_json({"name": "x", "conventions": {"sign": 1}}), r"manifest not understood: .*sign"),
        (lambda: Manifest.from_json({}), r"manifest not understood: .*name"),
    ],
)
def test_refusals(build, message):
    """If this fails, a misspelt capability is never tested, or a misspelt convention never undone."""
    with pytest.raises(ManifestError, match=message):
        build()


def test_every_field_has_a_vocabulary():
    """If this fails, a capability or convention was added that accepts anything."""
    for cls in (Capabilities, Conventions):
        for field in fields(cls):
            with pytest.raises(ManifestError, match=rf"{cls.__name__}\.{field.name}="):
                cls(**{field.name: "no such value"})


def test_every_word_of_the_vocabulary_belongs_to_a_field():
    """If this fails, the vocabulary lists what no manifest can say."""
    names = {field.name for cls in (Capabilities, Conventions) for field in fields(cls)}
    assert set(CHOICES) | set(SUBSETS) <= names
    assert not set(CHOICES) & set(SUBSETS)


def test_a_single_name_and_a_list_are_accepted():
    """If this fails, `activations="relu"` is read letter by letter."""
    assert Capabilities(activations="relu", losses=["mse", "ce"]) == Capabilities(
        activations=("relu",), losses=("mse", "ce")
    )


def test_defaults_claim_the_least():
    """If this fails, an adapter that says nothing is judged on what it cannot do."""
    c = Capabilities()
    assert (c.activations, c.losses, c.dtypes, c.placements) == (
        ("linear",),
        ("mse",),
        ("float64",),
        ("before-weight",),
    )
    assert not any((c.residual, c.precision, c.reports_energy, c.reports_gradients))
    assert (c.scalings, c.shapes) == ("folded", "palette")


def test_defaults_are_the_conventions_of_the_specification():
    """If this fails, an implementation that does as the documents say must declare something."""
    assert Conventions() == Conventions(
        energy_reduction="mean", energy_factor=1.0, energy_lag=0, step_size="per-sample", update_order="simultaneous",
        activity_order="input-first", layer_energy_order="input-first", gradient_sign=1, gradient_reduction="mean",
        gradient_point="final", activity_gradient_sign=1, activity_gradient_reduction="sum", weight_layout="out-in",
    )  # fmt: skip


def test_methods_are_the_claim():
    """If this fails, an optional method is not used, or one is asked for that is not there."""

    class Some:
        manifest = Manifest(name="some")
        train = None  # not callable: not offered

        def weight_gradients(self):
            """Offered."""

        def unknown(self):
            """Not part of the protocol."""

    assert methods_of(Some()) == ("weight_gradients",)
    assert methods_of(object()) == ()
    assert methods_of(NumpyPCN()) == tuple(m for m in OPTIONAL_METHODS if m != "compilations")


def test_answers_have_names():
    """If this fails, adapters that return tuples are read by position."""
    with pytest.raises(TypeError):
        Inference([])  # type: ignore[misc]
    with pytest.raises(TypeError):
        Equilibrium([])  # type: ignore[misc]
    assert Equilibrium(activities=[]).outcome == "converged"
    assert Inference(activities=[]).energy is None
