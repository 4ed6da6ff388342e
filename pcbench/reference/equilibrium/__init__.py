"""Equilibria of the reference: solvers, and what a solver has reached."""
