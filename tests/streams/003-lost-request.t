# A request was lost whole: its response stays alone, and the next pair is not shifted by one.
syn
> GET /a HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na
lost> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb
> GET /c HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc
wait 500ms
> GET /d HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd
fin>
fin<
=== expected
