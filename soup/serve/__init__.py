"""Processes: a parent that listens and workers that answer.

The parent is Granian's. It prepares nothing and knows nothing of blobs; what workers share while they run
(counters, the bell) is in a folder that lives as long as it does.
"""
