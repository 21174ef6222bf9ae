"""The words everything else is said in: digest, blob, span, errors, clock, conditions. Standard library only.

Values here cannot be wrong: a `Digest` that exists is a digest. `Gather` and `Bell` are the two small tools
for concurrency that more than one noun needs; each is one class with one reason.
"""
