# The capture begins inside a body and without a SYN: what belongs to the unseen request is skipped, the next pair
# is told.
< rest of a body that began before the capture
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb
=== expected
