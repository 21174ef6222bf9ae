"""Who may do what.

A token is 32 random bytes, shown once and kept as its SHA-256. Its kind says what it may do: `admin`
everything, `write` uploads and nothing else, `read` looks, `mirror` speaks for one mirror, `join` makes one.
Tokens are looked up in a dict of this process, which is read anew when one was made or revoked anywhere
(`db.bell`), and once a minute; those that are not in it are asked of the database together, ten times a
second at most: a new token works at once, and a flood of wrong ones costs little. The lookup goes by the hash
of what was sent, so its time says nothing about a token.

One secret may be in a file instead of the table (`joining`), so that whoever sets up a core and its mirrors
together can give both the same.
"""
