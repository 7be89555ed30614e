//! Captures made without a network: keep-alive federation traffic, many open flows, and hostile traffic. The same
//! arguments give the same bytes. Written record by record, so that gigabytes can go through a pipe.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::federation::{self, Random};
use super::pcap::{ACK, FIN, PSH, SYN, Segment, Writer, frame};

/// Payload of a full segment: Ethernet's 1,500 less IPv4, TCP and the timestamps option that real stacks send.
const MSS: usize = 1448;

/// When made-up captures begin: 2026-11-23T07:00:00Z.
const BEGIN: u64 = 1_795_417_200_000_000_000;

/// How a keep-alive capture is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// Connections, all open at once.
    pub connections: u16,
    /// Exchanges, over all connections.
    pub exchanges: u64,
    /// The seed of everything.
    pub seed: u64,
}

/// One end-to-end connection that is being made up.
struct Connection {
    client: SocketAddrV4,
    server: SocketAddrV4,
    /// Next sequence number of the client and of the server.
    next: [u32; 2],
    /// Frames that will be sent, in order.
    queue: VecDeque<Vec<u8>>,
}

impl Connection {
    fn new(client: SocketAddrV4, random: &mut Random) -> Self {
        let mut new = Self {
            client,
            server: SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 12), 3000),
            next: [random.next() as u32, random.next() as u32],
            queue: VecDeque::new(),
        };
        new.send(0, SYN, b"");
        new.next[0] = new.next[0].wrapping_add(1);
        new.send(1, SYN | ACK, b"");
        new.next[1] = new.next[1].wrapping_add(1);
        new.send(0, ACK, b"");
        new
    }

    /// Queues one segment of the client (0) or the server (1).
    fn send(&mut self, who: usize, flags: u8, payload: &[u8]) {
        let ends = [self.client, self.server];
        let ack = if flags & ACK == 0 { 0 } else { self.next[1 - who] };
        let mut bytes = Vec::with_capacity(54 + payload.len());
        let segment =
            Segment { from: ends[who], to: ends[1 - who], seq: self.next[who], ack, flags, payload };
        frame(&segment, &mut bytes);
        self.queue.push_back(bytes);
        self.next[who] = self.next[who].wrapping_add(payload.len() as u32);
    }

    /// Queues a message in full segments, every second one acknowledged, as Linux does.
    fn message(&mut self, who: usize, bytes: &[u8]) {
        let last = bytes.len().div_ceil(MSS).saturating_sub(1);
        for (place, part) in bytes.chunks(MSS).enumerate() {
            self.send(who, if place == last { ACK | PSH } else { ACK }, part);
            if place % 2 == 1 {
                self.send(1 - who, ACK, b"");
            }
        }
    }

    fn close(&mut self) {
        for who in [0, 1] {
            self.send(who, ACK | FIN, b"");
            self.next[who] = self.next[who].wrapping_add(1);
        }
        self.send(0, ACK, b"");
    }
}

/// Writes a capture of keep-alive connections; gives the number of records.
///
/// # Errors
/// It cannot be written.
pub fn keep_alive<W: Write>(options: KeepAlive, to: &mut Writer<W>) -> io::Result<u64> {
    let mut random = Random(options.seed);
    let client =
        |n: u16| SocketAddrV4::new(Ipv4Addr::new(10, 42, 0, 2 + (n / 16) as u8), 32_768 + n % 16 * 1_031);
    let mut open: Vec<Connection> =
        (0..options.connections).map(|n| Connection::new(client(n), &mut random)).collect();
    let (mut time, mut records, mut made) = (BEGIN, 0, 0);
    while !open.is_empty() {
        let place = random.below(open.len() as u64) as usize;
        let connection = &mut open[place];
        let Some(bytes) = connection.queue.pop_front() else {
            if made < options.exchanges {
                made += 1;
                let (request, response) = exchange(made, &mut random);
                connection.message(0, &request);
                connection.message(1, &response);
            } else {
                let mut last = open.swap_remove(place);
                last.close();
                for bytes in last.queue {
                    time += 5_000;
                    to.write(time, &bytes)?;
                    records += 1;
                }
            }
            continue;
        };
        time += 2_000 + random.below(20_000);
        to.write(time, &bytes)?;
        records += 1;
    }
    Ok(records)
}

/// A request and its response, as nginx would answer it.
fn exchange(number: u64, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let asked = federation::next_asked(random);
    let id = format!("X-Request-Id: {number}\r\n");
    let common = format!(
        "Server: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 07:27:01 GMT\r\nConnection: keep-alive\r\n{id}"
    );
    let Some(document) = federation::document(asked, random.below(federation::NOTES)) else {
        let delivery = federation::delivery(number);
        let body = format!("{}{number}{}", delivery.before, delivery.after);
        let digest = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(&body));
        let head = federation::delivery_head(&delivery, body.len(), &digest, &random.base64(344));
        let response = format!("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n{common}\r\n");
        return (format!("{head}{id}\r\n{body}").into_bytes(), response.into_bytes());
    };
    let request = format!("{}{id}\r\n", federation::fetch_head(&document)).into_bytes();
    let mut response =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{common}", document.media_type).into_bytes();
    if document.gzip {
        response.extend_from_slice(b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in gzip(document.body.as_bytes()).chunks(4096) {
            response.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            response.extend_from_slice(chunk);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
    } else {
        response.extend_from_slice(format!("Content-Length: {}\r\n\r\n", document.body.len()).as_bytes());
        response.extend_from_slice(document.body.as_bytes());
    }
    (request, response)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Writes `flows` connections that stay open: each with a POST of 1,000 octets and the first half of a response of
/// 2,800.
///
/// # Errors
/// It cannot be written.
pub fn open_flows<W: Write>(flows: u32, to: &mut Writer<W>) -> io::Result<()> {
    let mut request =
        b"POST /inbox HTTP/1.1\r\nHost: srv1.fediverse.test\r\nContent-Type: application/activity+json\r\n"
            .to_vec();
    request.extend_from_slice(b"Content-Length: 850\r\nX-Fill: ");
    request.resize(1000 - 850 - 4, b'x');
    request.extend_from_slice(b"\r\n\r\n");
    request.resize(1000, b'y');
    let mut response =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2700\r\n\r\n".to_vec();
    response.resize(1400, b'z');
    let mut random = Random(u64::from(flows));
    let mut time = BEGIN;
    let mut connections: Vec<Connection> = Vec::new();
    for number in 0..flows {
        let client =
            SocketAddrV4::new(Ipv4Addr::from(0x0a2b_0000 + number / 1000), 10_000 + (number % 1000) as u16);
        let mut connection = Connection::new(client, &mut random);
        while let Some(bytes) = connection.queue.pop_front() {
            time += 1_000;
            to.write(time, &bytes)?;
        }
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.message(0, &request);
        connection.message(1, &response);
        while let Some(bytes) = connection.queue.pop_front() {
            time += 1_000;
            to.write(time, &bytes)?;
        }
    }
    Ok(())
}

/// Traffic that is meant to hurt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hostile {
    /// Connection requests that nobody answers, each from another address and port.
    SynFlood,
    /// One connection whose requests and responses come one byte per segment.
    TinySegments,
    /// One connection whose request comes one byte per segment, the last byte first.
    Reversed,
    /// One connection that sends every second byte of a block first, then the others from the end: as many holes as
    /// there can be.
    Comb,
    /// Many connections, each with one byte out of order that waits forever.
    ManyHoles,
}

impl Hostile {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::SynFlood, "SYN flood"),
        (Self::TinySegments, "one byte per segment"),
        (Self::Reversed, "one byte per segment, in reverse"),
        (Self::Comb, "every second byte first"),
        (Self::ManyHoles, "a hole in every connection"),
    ];
}

/// Writes hostile traffic until `bytes` of capture are written.
///
/// # Errors
/// It cannot be written.
pub fn hostile<W: Write>(kind: Hostile, bytes: u64, to: &mut Writer<W>) -> io::Result<()> {
    let server = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 12), 80);
    let client = |n: u64| {
        SocketAddrV4::new(Ipv4Addr::from(0x0a80_0000 + (n / 60_000) as u32), 1024 + (n % 60_000) as u16)
    };
    let mut out = Vec::new();
    let mut time = BEGIN;
    let mut write = |to: &mut Writer<W>, segment: &Segment<'_>| {
        frame(segment, &mut out);
        time += 1_000;
        to.write(time, &out)
    };
    let plain = |from, to, seq, flags, payload| Segment { from, to, seq, ack: 1, flags, payload };
    // An Ethernet, IPv4 and TCP header and the record's own, with one byte of payload.
    let segments = (bytes / 71).min(u64::from(u32::MAX / 2)) as u32;
    match kind {
        Hostile::SynFlood => {
            for n in 0.. {
                if to.written() >= bytes {
                    break;
                }
                write(to, &plain(client(n), server, n as u32, SYN, b""))?;
            }
        }
        Hostile::TinySegments => {
            let request = b"GET /users/a1 HTTP/1.1\r\nHost: srv1.fediverse.test\r\n\r\n";
            let response = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"type\":\"Person\"}\r\n\n";
            let (mut seq, mut ack) = (1_u32, 1_u32);
            write(to, &plain(client(0), server, 0, SYN, b""))?;
            write(to, &plain(server, client(0), 0, SYN | ACK, b""))?;
            while to.written() < bytes {
                for byte in request {
                    let segment =
                        Segment { ack, ..plain(client(0), server, seq, ACK, std::slice::from_ref(byte)) };
                    write(to, &segment)?;
                    seq = seq.wrapping_add(1);
                }
                for byte in response {
                    let segment = Segment {
                        ack: seq,
                        ..plain(server, client(0), ack, ACK, std::slice::from_ref(byte))
                    };
                    write(to, &segment)?;
                    ack = ack.wrapping_add(1);
                }
            }
        }
        Hostile::Reversed => {
            write(to, &plain(client(0), server, 0, SYN, b""))?;
            for n in (0..segments).rev() {
                write(to, &plain(client(0), server, n + 1, ACK, b"x"))?;
            }
        }
        Hostile::Comb => {
            const BLOCK: u32 = 4_096;
            write(to, &plain(client(0), server, 0, SYN, b""))?;
            for block in 0..segments / BLOCK {
                let begin = 1 + block * BLOCK;
                for n in (1..BLOCK).step_by(2).chain((0..BLOCK).step_by(2).rev()) {
                    write(to, &plain(client(0), server, begin + n, ACK, b"x"))?;
                }
            }
        }
        Hostile::ManyHoles => {
            for n in 0.. {
                if to.written() >= bytes {
                    break;
                }
                write(to, &plain(client(n), server, 0, SYN, b""))?;
                write(to, &plain(client(n), server, 100, ACK, b"x"))?;
            }
        }
    }
    Ok(())
}
