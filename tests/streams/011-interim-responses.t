# 100 and 103 come before the final response and are kept apart from it (RFC 9110 §15.2).
syn
> POST /media HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n
< HTTP/1.1 100 Continue\r\n\r\n
> data
< HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n
< HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n
fin>
fin<
=== expected
http/1.1 POST /media [4 of 4] -> 100 103 201 [0 of 0]
delivered 203 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
