"""The gate: compare two commits of an implementation in conformance and speed, at stated error rates.

`signs` and `effect` are the statistics, `rows` what is measured, `measure` the program that measures it in a process of
its own, `harness` and `sides` what runs there, `commits` the two checkouts, `session` the whole, `outcome` its data.
Nothing is imported here: `measure` runs in foreign interpreters.
"""
