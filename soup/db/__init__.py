"""The database: engines, one transaction at a time, leases, migrations. It knows no noun.

`Database.begin()` is a unit of work that may write; what it queued with `work.after` happens once it is
committed. `Database.reading()` never writes. On SQLite there is one connection for writing, so that writers
of one process queue here and not in SQLite's busy handler; a write takes its lock at the start (`begin
immediate`), because a transaction that reads first and writes later can fail where waiting would have helped.
"""
