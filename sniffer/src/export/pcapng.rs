//! Packets made from exchanges. The store keeps no frames, so each exchange is told again as a TCP connection of its own
//! in HTTP/1.1, with the true addresses, times, header fields and decoded content. What had to change so that a
//! dissector can follow (framing, content codings, h2c) is kept beside as `X-Fedisniff-…` fields, and every packet's
//! comment says that it was rebuilt.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use etherparse::{PacketBuilder, TcpOptionElement};

use crate::frame::Timestamp;
use crate::http::{Exchange, Headers, Message, Protocol, Request, Response, WebSocket};

/// Octets of payload in a packet: what fits an Ethernet frame with IPv6 and timestamps.
const SEGMENT: usize = 1400;
/// Windows of 1 GiB: nobody is seen to wait.
const WINDOW_SCALE: u8 = 14;
/// Interfaces that are named; exchanges of further ones go to the unnamed first.
const INTERFACES_LIMIT: usize = 4096;

const NOTE: &str = "Rebuilt by fedisniff from stored exchanges: these packets were never captured like this. Addresses, \
                    times, header fields and decoded content are those that were seen; packet boundaries, sequence \
                    numbers, handshakes and message framing are not. Fields named X-Fedisniff-... say what was changed.";

/// A file being written.
pub(super) struct Pcapng {
    /// Names of the interfaces that were described so far; the first has none.
    interfaces: Vec<Option<std::sync::Arc<str>>>,
}

impl Pcapng {
    pub(super) fn begin(to: &mut dyn Write) -> io::Result<Self> {
        // Section Header Block: byte-order magic, version 1.0, length unknown.
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, 4, concat!("fedisniff ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut body, 1, NOTE.as_bytes());
        end_of_options(&mut body);
        block(to, 0x0a0d_0d0a, &body)?;
        let mut file = Self { interfaces: Vec::new() };
        file.describe(to, None)?;
        Ok(file)
    }

    /// The number of the interface with this name, described if it is new.
    fn interface(&mut self, to: &mut dyn Write, name: Option<&std::sync::Arc<str>>) -> io::Result<u32> {
        if let Some(place) = self.interfaces.iter().position(|known| known.as_ref() == name) {
            return Ok(u32::try_from(place).unwrap_or(0));
        }
        if self.interfaces.len() >= INTERFACES_LIMIT {
            return Ok(0);
        }
        self.describe(to, name.cloned())
    }

    fn describe(&mut self, to: &mut dyn Write, name: Option<std::sync::Arc<str>>) -> io::Result<u32> {
        // Interface Description Block: Ethernet, no snap length, nanoseconds.
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
        if let Some(name) = &name {
            option(&mut body, 2, name.as_bytes());
        }
        option(&mut body, 9, &[9]);
        end_of_options(&mut body);
        block(to, 1, &body)?;
        self.interfaces.push(name);
        Ok(u32::try_from(self.interfaces.len() - 1).unwrap_or(0))
    }

    /// Writes an exchange as a connection.
    pub(super) fn conversation(&mut self, to: &mut dyn Write, exchange: &Exchange) -> io::Result<()> {
        let interface = self.interface(to, exchange.interface_name.as_ref())?;
        let mut wire = Wire::new(to, exchange, interface);
        let began = exchange.started;
        wire.handshake(began)?;
        if let Some(request) = &exchange.request {
            let message = &request.message;
            wire.say(true, &written_request(request, exchange), message.first_byte, message.last_byte)?;
        }
        for interim in &exchange.interim {
            let head = written_head(&format!("HTTP/1.1 {}", interim.status), &interim.headers, &[]);
            wire.say(false, &head, interim.time, interim.time)?;
        }
        if let Some(response) = &exchange.response {
            let message = &response.message;
            wire.say(false, &written_response(response, exchange), message.first_byte, message.last_byte)?;
        }
        if let Some(websocket) = &exchange.websocket {
            wire.talk(websocket)?;
        }
        wire.close(exchange.ended)
    }
}

/// The two ends of a rebuilt connection.
struct Wire<'a> {
    to: &'a mut dyn Write,
    client: SocketAddr,
    server: SocketAddr,
    /// The next sequence numbers: the client's, the server's.
    next: [u32; 2],
    interface: u32,
    comment: String,
    /// Packets do not go back in time.
    now: Timestamp,
}

impl<'a> Wire<'a> {
    fn new(to: &'a mut dyn Write, exchange: &Exchange, interface: u32) -> Self {
        // Each exchange is a connection of its own on the ports of the real one: sequence numbers that differ tell
        // dissectors so.
        let [.., a, b, c, d, e, f, g, h] = exchange.id.0;
        let mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let next = [(mixed >> 32) as u32, mixed as u32];
        let how = if exchange.protocol == Protocol::H2c { ", told as HTTP/1.1 (it was HTTP/2)" } else { "" };
        let comment = format!("fedisniff: rebuilt from exchange {}{how}; not a captured frame", exchange.id);
        let ends = exchange.ends;
        Self { to, client: ends.client, server: ends.server, next, interface, comment, now: exchange.started }
    }

    fn handshake(&mut self, time: Timestamp) -> io::Result<()> {
        for (from_client, ack) in [(true, false), (false, true)] {
            self.packet(from_client, Flags { syn: true, ack, ..Flags::default() }, &[], time)?;
            self.advance(from_client, 1);
        }
        self.packet(true, Flags { ack: true, ..Flags::default() }, &[], time)
    }

    /// A message in packets: the first at `first`, the others at `last`, then an acknowledgement.
    fn say(&mut self, from_client: bool, octets: &[u8], first: Timestamp, last: Timestamp) -> io::Result<()> {
        let count = octets.len().div_ceil(SEGMENT);
        for (place, segment) in octets.chunks(SEGMENT).enumerate() {
            let push = place + 1 == count;
            let flags = Flags { ack: true, push, ..Flags::default() };
            self.packet(from_client, flags, segment, if place == 0 { first } else { last })?;
            self.advance(from_client, u32::try_from(segment.len()).unwrap_or(0));
        }
        self.packet(!from_client, Flags { ack: true, ..Flags::default() }, &[], last)
    }

    /// WebSocket messages as one frame each, not compressed, under a mask of zeros.
    fn talk(&mut self, websocket: &WebSocket) -> io::Result<()> {
        for message in &websocket.messages {
            let masked = if message.to_server { 0x80 } else { 0 };
            let mut frame = vec![0x80 | message.opcode];
            match message.bytes.len() {
                length @ 0..=125 => frame.push(masked | length as u8),
                length => match u16::try_from(length) {
                    Ok(length) => {
                        frame.push(masked | 126);
                        frame.extend(length.to_be_bytes());
                    }
                    Err(_) => {
                        frame.push(masked | 127);
                        frame.extend((length as u64).to_be_bytes());
                    }
                },
            }
            if message.to_server {
                frame.extend([0; 4]);
            }
            frame.extend_from_slice(&message.bytes);
            self.say(message.to_server, &frame, message.time, message.time)?;
        }
        Ok(())
    }

    fn close(&mut self, time: Timestamp) -> io::Result<()> {
        for from_client in [true, false] {
            self.packet(from_client, Flags { ack: true, fin: true, ..Flags::default() }, &[], time)?;
            self.advance(from_client, 1);
        }
        self.packet(true, Flags { ack: true, ..Flags::default() }, &[], time)
    }

    fn advance(&mut self, from_client: bool, octets: u32) {
        let [client, server] = &mut self.next;
        let next = if from_client { client } else { server };
        *next = next.wrapping_add(octets);
    }

    /// Writes a packet as an Enhanced Packet Block.
    fn packet(&mut self, from_client: bool, flags: Flags, payload: &[u8], time: Timestamp) -> io::Result<()> {
        self.now = self.now.max(time);
        let [client_next, server_next] = self.next;
        let (from, to, sequence, acknowledged) = if from_client {
            (self.client, self.server, client_next, server_next)
        } else {
            (self.server, self.client, server_next, client_next)
        };
        // Locally administered addresses: the real ones are not stored.
        let (client_mac, server_mac) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let (from_mac, to_mac) =
            if from_client { (client_mac, server_mac) } else { (server_mac, client_mac) };
        let link = PacketBuilder::ethernet2(from_mac, to_mac);
        let network = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
            (from, to) => link.ipv6(mapped(from), mapped(to), 64),
        };
        let mut tcp = network.tcp(from.port(), to.port(), sequence, u16::MAX);
        if flags.syn {
            let options = [
                TcpOptionElement::MaximumSegmentSize(SEGMENT as u16),
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(WINDOW_SCALE),
            ];
            tcp = tcp.options(&options).map_err(io::Error::other)?.syn();
        }
        if flags.ack {
            tcp = tcp.ack(acknowledged);
        }
        if flags.push {
            tcp = tcp.psh();
        }
        if flags.fin {
            tcp = tcp.fin();
        }
        let mut frame = Vec::with_capacity(tcp.size(payload.len()));
        tcp.write(&mut frame, payload).map_err(io::Error::other)?;
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let nanos = self.now.0;
        let mut body = Vec::with_capacity(frame.len() + self.comment.len() + 48);
        body.extend(self.interface.to_le_bytes());
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(frame);
        pad(&mut body);
        option(&mut body, 1, self.comment.as_bytes());
        end_of_options(&mut body);
        block(self.to, 6, &body)
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    syn: bool,
    ack: bool,
    push: bool,
    fin: bool,
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn written_request(request: &Request, exchange: &Exchange) -> Vec<u8> {
    let message = &request.message;
    let method = request.method.as_deref().unwrap_or("UNKNOWN");
    let target = request.target.as_deref().unwrap_or("/");
    let mut extra = Vec::new();
    if request.method.is_none() || request.target.is_none() {
        extra.push(("X-Fedisniff-Unknown", "method or target were not seen".to_owned()));
    }
    if message.headers.get("host").is_none()
        && let Some(host) = &request.host
    {
        extra.push(("Host", host.to_string()));
    }
    let line = format!("{method} {target} HTTP/{}", line_version(message));
    let has_body = !message.body.bytes.is_empty() || message.headers.get("content-length").is_some();
    written(&line, message, exchange, has_body || message.body.wire_size > 0, extra)
}

fn written_response(response: &Response, exchange: &Exchange) -> Vec<u8> {
    let message = &response.message;
    let mut extra = Vec::new();
    if response.status.is_none() {
        extra.push(("X-Fedisniff-Unknown", "the status was not seen".to_owned()));
    }
    // RFC 9112 §2.1: the status code has three digits. 000 is none.
    let status = response.status.unwrap_or(0);
    let line = format!("HTTP/{} {status:03} {}", line_version(message), response.reason);
    // RFC 9112 §6.3: these have no body, whatever their fields say.
    let head = exchange.request.as_ref().is_some_and(|r| r.method.as_deref() == Some("HEAD"));
    let without_body = head || matches!(status, 100..=199 | 204 | 304);
    written(&line, message, exchange, !without_body, extra)
}

fn line_version(message: &Message) -> &'static str {
    if message.version == (1, 0) { "1.0" } else { "1.1" }
}

/// Start line, header fields with true framing, and the kept content.
fn written(
    line: &str,
    message: &Message,
    exchange: &Exchange,
    has_body: bool,
    mut extra: Vec<(&'static str, String)>,
) -> Vec<u8> {
    let body = &message.body;
    if exchange.protocol == Protocol::H2c {
        extra.push(("X-Fedisniff-Protocol", "h2c".to_owned()));
    }
    if (body.bytes.len() as u64) < body.size || !body.complete {
        extra.push((
            "X-Fedisniff-Body",
            format!("{} octets here, {} seen, complete: {}", body.bytes.len(), body.size, body.complete),
        ));
    }
    for (name, value) in message.trailers.iter() {
        extra.push(("X-Fedisniff-Trailer", format!("{}: {}", shown(name), shown(value))));
    }
    if has_body {
        extra.push(("Content-Length", body.bytes.len().to_string()));
    }
    let mut out = written_head_of(line, &message.headers, &extra, has_body);
    if has_body {
        out.extend_from_slice(&body.bytes);
    }
    out
}

fn written_head(line: &str, headers: &Headers, extra: &[(&'static str, String)]) -> Vec<u8> {
    written_head_of(line, headers, extra, false)
}

/// `reframed`: the message has a body, whose length is among `extra`.
fn written_head_of(
    line: &str,
    headers: &Headers,
    extra: &[(&'static str, String)],
    reframed: bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    one_line(&mut out, line.as_bytes());
    out.extend(b"\r\n");
    for (name, value) in headers.iter() {
        let name = shown(name);
        let moved =
            ["transfer-encoding", "sec-websocket-extensions"].iter().any(|n| name.eq_ignore_ascii_case(n))
                || (reframed
                    && ["content-length", "content-encoding"].iter().any(|n| name.eq_ignore_ascii_case(n)));
        if moved {
            out.extend(b"X-Fedisniff-");
        }
        one_line(&mut out, if name == "?" { b"X-Fedisniff-Unknown" } else { name.as_bytes() });
        out.extend(b": ");
        one_line(&mut out, value.unwrap_or(b"?"));
        out.extend(b"\r\n");
    }
    for (name, value) in extra {
        out.extend(name.as_bytes());
        out.extend(b": ");
        one_line(&mut out, value.as_bytes());
        out.extend(b"\r\n");
    }
    out.extend(b"\r\n");
    out
}

fn shown(part: Option<&[u8]>) -> std::borrow::Cow<'_, str> {
    part.map_or("?".into(), String::from_utf8_lossy)
}

/// Text in a head; line ends in it (of a folded field, or hostile) become spaces.
fn one_line(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|octet| if matches!(octet, b'\r' | b'\n') { b' ' } else { *octet }));
}

/// A block: type, length, body, length again (draft-ietf-opsawg-pcapng §3.1).
fn block(to: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length)?;
    to.write_all(body)?;
    to.write_all(&length)
}

/// An option, padded to 32 bits (§3.5).
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
