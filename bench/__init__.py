"""Where the figures come from. Speed is stated against nginx doing the same in the same run (D13).

`python -m bench` is all of it: rows (`rows.py` has their lines) that are measured in groups (`run.py`), each
a few servers on one core (`servers.py`) that take turns under a load from another (`load.py`, `paced.py`)
while answers are looked at (`checks.py`). What turns come to is in `figures.py`, how it is told in `table.py`
and `plots.py`. `python -m bench.quick` is the short part of it.

`bench.soak` is memory under many uploads, `bench.pick` a pick among many mirrors, `bench.fleet` an agent
beside rsync, `bench.reports` a thousand reports a second, `bench.commits` uploads by how many clients. All
start what they need, on loopback, and remove what they made.
"""
