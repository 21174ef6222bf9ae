"""What soup does unasked.

`table` says what is done and how often; `clock` does it, in the one process that holds the lease. Every
worker tries to hold it, so another takes over when the holder dies. What a job writes is written under the
lease's epoch: a process that slept through its lease wakes up to find that nothing it does counts.
"""
