# The server resets inside a body: the response is told as cut, never as complete.
syn
> GET /odd/reset HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf
rst<
=== expected
http/1.1 GET /odd/reset [0 of 0] -> 200 [4? of 4] !cut-by-reset
delivered 80 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
