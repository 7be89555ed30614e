# A body until the connection closes is complete with FIN ...
syn
> GET /odd/close HTTP/1.0\r\n\r\n
< HTTP/1.0 200 OK\r\n\r\nall
< there is
fin<
fin>
=== expected
