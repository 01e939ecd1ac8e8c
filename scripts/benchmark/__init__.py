"""What `scripts/bench` runs: mmindex, its peers and the limits side by side, on seeded data.

`data.py` writes the files, `openers.py` opens them with each contender, `limits.py` has what a
machine cannot do faster. A family of cases is a list of these for `cases.py`, which measures them
by `measure.py`; `__main__.py` names the families. `report.py` and `plots.py` say what came out. A
module imports a peer where it is used.
"""
