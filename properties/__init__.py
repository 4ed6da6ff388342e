"""Hypothesis properties: each checks one law on problems drawn from the law's domain.

A property states nothing of its own: it draws problems from a law's domain (`pcbench.properties.mlp`) and lets the law
measure them (`pcbench.laws`).  This directory is `pcbench.properties` once installed.
"""

from pcbench.properties.judge import judge_group as judge_group
from pcbench.properties.judge import measure_problem as measure_problem
from pcbench.properties.judge import property_test as property_test
