"""Processes: a parent that keeps workers alive, and workers that answer (D10).

The parent is soup's own and knows nothing of blobs. It holds the ports, has the data folder prepared, forks a
worker for each place at each listener, puts another in the place of one that dies, passes on settings that
changed and sees that everybody stops in time. A worker is one event loop with Granian embedded in it. What
workers share while they run (counters, the bells) is in a folder that lives as long as the parent.
"""
