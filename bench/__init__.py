"""Where the figures come from. Speed is stated against nginx doing the same in the same run (D13).

`python -m bench.quick` is the redirect; `python -m bench.soak` is memory under many uploads. Both start what
they need, on loopback, and remove what they made.
"""
