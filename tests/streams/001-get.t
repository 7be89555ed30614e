# The plainest exchange: one request, one response, a handshake and a close.
syn
> GET /users/alice HTTP/1.1\r\nHost: gts1.fediverse.test\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello
fin>
fin<
=== expected
