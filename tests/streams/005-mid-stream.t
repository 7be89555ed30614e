# The capture begins inside a body and without a SYN: what belongs to the unseen request is skipped, the next pair
# is told.
< rest of a body that began before the capture
> GET /b HTTP/1.1\r\nHost: h\r\n\r\n
< HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb
=== expected
http/1.1 GET /b [0 of 0] -> 200 [1 of 1]
delivered 111 gaps 0 (0) duplicate 0 conflicts 0 hunted 44
