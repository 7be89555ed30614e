-- The load of `cargo xtask bench`: federation traffic from the tables of requests.lua (given as argument). Every request
-- has its own X-Request-Id; every delivery has a body, a digest and a signature-shaped value that no other has.

local ffi = require("ffi")
local bit = require("bit")
ffi.cdef("unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);")
-- wrk is linked with OpenSSL's libcrypto, so the function is in the process already.
local crypto = ffi.C
local md = ffi.new("unsigned char[32]")

local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local digits = {}
for c in ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):gmatch(".") do
  digits[#digits + 1] = c
end

local function base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = bit.bor(bit.lshift(a, 16), bit.lshift(b or 0, 8), c or 0)
    out[#out + 1] = digits[bit.rshift(n, 18) + 1]
    out[#out + 1] = digits[bit.band(bit.rshift(n, 12), 63) + 1]
    out[#out + 1] = b and digits[bit.band(bit.rshift(n, 6), 63) + 1] or "="
    out[#out + 1] = c and digits[bit.band(n, 63) + 1] or "="
  end
  return table.concat(out)
end

local function sha256(text)
  crypto.SHA256(text, #text, md)
  return ffi.string(md, 32)
end

function init(args)
  dofile(args[1])
  -- Lines of HTTP end with CR LF; the tables are written with LF.
  local function crlf(text) return (text:gsub("\n", "\r\n")) end
  for _, kind in ipairs({ "actors", "notes", "webfingers", "outboxes" }) do
    for i, head in ipairs(requests[kind]) do requests[kind][i] = crlf(head) end
  end
  for _, delivery in ipairs(requests.deliveries) do
    for i = 1, 3 do delivery[i] = crlf(delivery[i]) end
  end
  math.randomseed(7 + number)
  sent = 0
end

local function pick(kind)
  return kind[math.random(#kind)]
end

function request()
  sent = sent + 1
  local id = string.format("%02d%08d", number, sent)
  local id_field = "X-Request-Id: " .. id .. "\r\n\r\n"
  local draw = math.random(100)
  if draw > 90 then return pick(requests.outboxes) .. id_field end
  if draw > 85 then return pick(requests.webfingers) .. id_field end
  if draw > 70 then return pick(requests.notes) .. id_field end
  if draw > 45 then return pick(requests.actors) .. id_field end
  local d = pick(requests.deliveries)
  local body = d[4] .. id .. d[5]
  local hash = sha256(body)
  -- 256 octets that do not compress, as an RSA signature has them.
  local signature, link = {}, hash
  for i = 1, 8 do
    link = sha256(link)
    signature[i] = link
  end
  return table.concat({ d[1], base64(hash), d[2], base64(table.concat(signature)), d[3], id_field, body })
end

-- A pause before each request leaves tcpdump time to write: what it drops cannot be measured on.
function delay()
  return math.random(0, 8)
end
