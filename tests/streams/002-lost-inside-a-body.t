# A hole inside a body of known length: the exchange goes on, the body is marked, and the next exchange is whole
# (Zeek's `Undelivered`: a lost piece of a picture is no reason to lose the next hundred requests).
syn
> GET /a HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n
lost< 1000
repeat 20 < ....................................................................................................
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 204 No Content\r\n\r\n
fin>
fin<
=== expected
http/1.1 GET /a [0 of 0] -> 200 [3000? of 3000] gap<1000
http/1.1 GET /b [0 of 0] -> 204 [0 of 0]
delivered 2124 gaps 1 (1000) duplicate 0 conflicts 0 hunted 0
