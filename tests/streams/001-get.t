# The plainest exchange: one request, one response, a handshake and a close.
syn
> GET /users/alice HTTP/1.1\r\nHost: gts1.fediverse.test\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello
fin>
fin<
=== expected
http/1.1 GET /users/alice [0 of 0] -> 200 [5 of 5]
delivered 99 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
