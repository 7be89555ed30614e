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
http/1.1 GET /a [0 of 0] -> 200 [1 of 1]
http/1.1 null -> 200 [1 of 1] gap>28
http/1.1 GET /c [0 of 0] -> 200 [1 of 1]
http/1.1 GET /d [0 of 0] -> 200 [1 of 1]
delivered 240 gaps 1 (28) duplicate 0 conflicts 0 hunted 0
