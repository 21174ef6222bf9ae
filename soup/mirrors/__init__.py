"""Who else serves our blobs.

A mirror is a plain web server. What an administrator says of it is one row (`mirror`), what it says of itself
another (`report`). `picture` and `pick` in `policy` decide who carries a request: the first runs when facts
change and writes down a reason for everybody it leaves out, the second is a draw (D9). `picture.py` keeps the
picture of this process fresh.

A mirror may also say itself that it is one (`joins`, D11). Nobody vouches for it, so its `address` is judged,
each time it is asked as well, and it is chosen after its first passed audit.

A report replaces what the mirror said before; a report that says nothing is a heartbeat and repeats it.
Silence for longer than `silence` seconds is judged at the moment of choice, by a steady clock (D18); the
sweep only writes it down.
"""
