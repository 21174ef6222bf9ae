"""Where bytes are. A store keeps blobs under their digest and knows no database.

A `Store` is five verbs (`base.py`). What only some can do is a second tiny protocol (`OnDisk`). Features are
stores around stores (`Wrapper`). New bytes come through one door, `spool.py`: there they are counted and
hashed, so that a store is only ever asked to keep what is already known by name and size.

`LocalStore` is durable before it answers: file, rename or link, folder, each synced. `identity.py` writes
down which store a folder is, so that an unmounted disk does not look like an empty one (D15).
"""
