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
