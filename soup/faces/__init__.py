"""HTTP in, a verb called, HTTP out. No session, no store, and no `try` in a handler.

A request passes `errors.Guard` (is it HTTP we can trust?), then `front.Front`, which answers `/<sha256>`
itself, without the framework (D3). Everything else goes through `envelope.Envelope` to Litestar: `blob`,
`cdn`, `ops`. `reply` decides 200, 206, 304, 412, 416 for a blob whose bytes soup sends; `body` reads uploads;
`auth` says who may. Errors become statuses in one table, in `errors`.
"""
