# The server resets inside a body: the response is told as cut, never as complete.
syn
> GET /odd/reset HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf
rst<
=== expected
