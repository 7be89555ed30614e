# A body until the connection closes is complete with FIN ...
syn
> GET /odd/close HTTP/1.0\r\n\r\n
< HTTP/1.0 200 OK\r\n\r\nall
< there is
fin<
fin>
=== expected
http/1.0 GET /odd/close [0 of 0] -> 200 [11 of 11]
delivered 57 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
