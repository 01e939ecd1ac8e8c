"""What `scripts/bench` runs: mmindex, its peers and the limits side by side, on seeded data.

`data.py` writes the files, `openers.py` opens them with each contender, `limits.py` has what a
machine cannot do faster; one module a family of cases measures them with `measure.py`, and
`report.py` and `plots.py` say what came out. A module imports a peer where it is used.
"""
