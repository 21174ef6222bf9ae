"""Routes that only look: what answers GET answers HEAD as well (RFC 9110, 9.1)."""

from functools import partial

from litestar import route

look = partial(route, http_method=["GET", "HEAD"], status_code=200)
