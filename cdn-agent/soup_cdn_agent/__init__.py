"""The agent of a mirror: it stands beside a web server and tells soup how that one is.

It keeps the folder of blobs as the core's feed says (`feed`, `fetch`, `folder`), reads what it keeps again
(`scan`, `scrub`), looks at it through the web server as a client would (`probe`), counts what that delivers
(`traffic`), and reports what came of it (`reporter`). What should be here stands in an index beside the blobs
(`index`): a folder that is lost takes what was claimed of it along.

`standing` and `claim` are the two decisions, and pure: which status, and which blobs the mirror answers for.
Nothing here imports soup: the agent is installed alone.
"""

__version__ = "0.1.0"
