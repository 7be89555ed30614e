# The first bytes win, and the difference is named: somebody in the path may be lying.
syn
> GET /a HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n
< good
instead< evil
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 204 No Content\r\n\r\n
fin>
fin<
=== expected
