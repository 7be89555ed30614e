# Chunked both ways, with an extension and trailers, each cut across segments (RFC 9112 §7.1).
syn
> POST /inbox HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4;name=va
> lue\r\nwiki\r\n0\r\nDigest: x\r
> \n\r\n
< HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n5\r\nhello\r\n
< 0\r\nServer-Timing: db;dur=1\r\n\r\n
fin>
fin<
=== expected
http/1.1 POST /inbox [4 of 36] +1 trailers -> 200 [5 of 40] +1 trailers
delivered 208 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
