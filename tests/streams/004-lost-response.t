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
http/1.1 GET /a [0 of 0] -> null gap<39
http/1.1 GET /b [0 of 0] -> 200 [1 of 1]
http/1.1 GET /c [0 of 0] -> 200 [1 of 1]
delivered 162 gaps 1 (39) duplicate 0 conflicts 0 hunted 0
