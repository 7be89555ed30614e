# TLS on a port where HTTP was expected is counted, not misread.
syn
> \x16\x03\x01\x00\x05\x01\x00\x00\x01\x00
< \x16\x03\x03\x00\x05\x02\x00\x00\x01\x00
fin>
fin<
=== expected
delivered 20 gaps 0 (0) duplicate 0 conflicts 0 hunted 0 not HTTP: Tls 1
