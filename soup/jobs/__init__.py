"""What ran, when, where, and what came of it.

The last runs of each job are kept, so that somebody who comes after the fact can see what soup did unasked.
Runs that found nothing to do are kept as well: that a job ran is what one wants to know first.
"""
