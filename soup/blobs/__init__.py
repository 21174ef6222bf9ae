"""What exists and where its copies are.

A blob is a row with one of three states: present, blocked, gone. Each change of state takes the next number
of the feed (D7) in the same transaction, so that a reader who has seen number n has missed nothing up to n.
`service` has the verbs; `index` is the narrow read path of the redirect; `reading` opens the bytes behind an
answer; `scrub` reads all of them again, now and then.

A blob is kept in this order: spool, store (synced), row (committed), answer. It is deleted in the opposite
order, and the bytes go last, a minute later, under the lock that an upload of the same digest takes to revive
it (D17).
"""
