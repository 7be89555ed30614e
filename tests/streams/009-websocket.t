# An Upgrade to WebSocket: a masked text from the client, a text from the server, a close from each.
syn
> GET /api/v1/streaming HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
< HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n
> \x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58
< \x81\x05Hello
> \x88\x82\x00\x00\x00\x00\x03\xe8
< \x88\x02\x03\xe8
fin>
fin<
=== expected
http/1.1 GET /api/v1/streaming [0 of 0] -> 101 [0 of 0] websocket 4 frames >1:5 <1:5 >8:2 <8:2
delivered 315 gaps 0 (0) duplicate 0 conflicts 0 hunted 0
