# Two segments of a response in the wrong order: nothing is lost, nothing is marked.
syn
> GET /a HTTP/1.1\r\nHost: h\r\n\r\n
swap
< HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none
< two
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 204 No Content\r\n\r\n
fin>
fin<
=== expected
http/1.1 GET /a [0 of 0] -> 200 [6 of 6]
http/1.1 GET /b [0 of 0] -> 204 [0 of 0]
delivered 127 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
