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
http/1.1 GET /a [0 of 0] -> 200 [4 of 4]
http/1.1 GET /b [0 of 0] -> 204 [0 of 0]
delivered 125 gaps 0 (0) duplicate 4 conflicts 1 hunted 0
