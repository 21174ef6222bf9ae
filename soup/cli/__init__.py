"""The command line: one file a verb.

A verb imports what it needs when it runs, so that `soup --help` starts at once and no verb pays for another's
libraries.
"""
