"""A content-addressed blob server with CDN offload.

Files are kept under their SHA-256. A request for one is answered with a 307 to a mirror that is online, or
with the bytes when nobody is. The packages are floors: `core` holds the words, `stores` the bytes, `db` the
rows; `blobs`, `mirrors` and `access` are the nouns; `faces` speak HTTP, `runner` does what nobody asked for;
`app` puts it together.
"""
