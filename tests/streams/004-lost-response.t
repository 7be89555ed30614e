# A response was lost whole: its request is told without an answer, and the next pair is right.
syn
> GET /a HTTP/1.1\r\nHost: h\r\n\r\n
lost< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb
wait 500ms
> GET /c HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc
fin>
fin<
=== expected
