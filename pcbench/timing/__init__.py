"""Timing of one process, and a description of the machine that it ran on."""
