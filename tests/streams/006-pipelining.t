# Three requests in one segment, answered in order (RFC 9112 §9.3.2).
syn
> GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none
< HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\ntwo
< HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n
fin>
fin<
=== expected
http/1.1 GET /1 [0 of 0] -> 200 [3 of 3]
http/1.1 GET /2 [0 of 0] -> 404 [3 of 3]
http/1.1 HEAD /3 [0 of 0] -> 200 [0 of 0]
delivered 214 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
