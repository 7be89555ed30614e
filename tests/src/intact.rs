//! The truth about a keep-alive capture, found without the product's code: which exchanges it holds, with the SHA-256
//! of their bodies, and which of them lost no byte when records were lost. Then the product's `--json` is held against
//! it. Reads only undamaged captures of plain HTTP/1.1 (Content-Length, chunked, gzip); anything else is an error.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read};
use std::net::SocketAddrV4;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::pcap::{ACK, Reader, Record, SYN, segment};

/// Everything that was said in a capture.
#[derive(Debug, Default)]
pub struct Truth {
    /// Answered exchanges in order of their completion, and after them requests that got no answer.
    pub exchanges: Vec<Exchange>,
    /// Records in the capture.
    pub records: u32,
    /// Payload bytes of all streams.
    pub payload: u64,
    /// The segments of both directions of each connection, as (offset, length, record), sorted.
    streams: Vec<[Vec<(u64, u32, u32)>; 2]>,
}

/// One exchange as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// `X-Request-Id`, which request and response both carry.
    pub id: Box<str>,
    /// The method.
    pub method: Box<str>,
    /// The target.
    pub target: Box<str>,
    /// Hash and length of the request's body, decoded.
    pub sent: Body,
    /// The status, and hash and length of the response's body, decoded.
    pub answer: Option<(u16, Body)>,
    connection: u32,
    /// Offsets of the first byte and after the last byte, of request and response.
    spans: [(u64, u64); 2],
}

/// A body after de-chunking and content decoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// Octets.
    pub size: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: Box<str>,
}

/// What the product made of a damaged capture.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Score {
    /// Exchanges that lost no byte.
    pub intact: u64,
    /// Of those, reported whole: both messages complete, no gap, the right id, method, target and status.
    pub whole: u64,
    /// Exchanges reported, whole or not.
    pub reported: u64,
    /// Exchanges that lost bytes and were reported as if they had not.
    pub false_whole: u64,
    /// Bodies called complete whose SHA-256 or size is not the true one.
    pub wrong_bodies: u64,
    /// Exchanges whose response belongs to another request.
    pub mispaired: u64,
    /// Requests that were reported more than once.
    pub repeated: u64,
    /// Whole bodies without a hash: the comparison would be empty.
    pub unhashed: u64,
}

impl Score {
    /// Share of the intact exchanges that was reported whole, in percent.
    pub fn percent(&self) -> f64 {
        if self.intact == 0 { 100.0 } else { self.whole as f64 * 100.0 / self.intact as f64 }
    }

    /// Whether nothing was invented: no wrong body, no wrong pair, no hole passed over in silence.
    pub fn honest(&self) -> bool {
        [self.false_whole, self.wrong_bodies, self.mispaired, self.repeated, self.unhashed] == [0; 5]
    }
}

impl Truth {
    /// Reads an undamaged capture.
    ///
    /// # Errors
    /// It cannot be read, or holds something that this reader does not know.
    pub fn read(from: impl Read) -> io::Result<Self> {
        let mut truth = Self::default();
        let mut open: HashMap<(SocketAddrV4, SocketAddrV4), (u32, Connection)> = HashMap::new();
        let mut reader = Reader::new(from)?;
        let mut record = Record { time: 0, bytes: Vec::new() };
        while reader.next_into(&mut record)? {
            let number = truth.records;
            truth.records += 1;
            let Some(segment) = segment(&record.bytes) else { continue };
            if segment.flags & (SYN | ACK) == SYN {
                let base = segment.seq.wrapping_add(1);
                let known =
                    open.get(&(segment.from, segment.to)).is_some_and(|(_, c)| c.sides[0].base == Some(base));
                if !known {
                    let connection = truth.streams.len() as u32;
                    truth.streams.push(Default::default());
                    let fresh = (connection, Connection::default());
                    if let Some((old, connection)) = open.insert((segment.from, segment.to), fresh) {
                        connection.unanswered(old, &mut truth.exchanges);
                    }
                    if let Some((_, c)) = open.get_mut(&(segment.from, segment.to)) {
                        c.sides[0].base = Some(base);
                    }
                }
                continue;
            }
            let to_server = open.contains_key(&(segment.from, segment.to));
            let key = if to_server { (segment.from, segment.to) } else { (segment.to, segment.from) };
            let Some((connection, state)) = open.get_mut(&key) else { continue };
            let who = usize::from(!to_server);
            if segment.flags & SYN != 0 {
                state.sides[who].base = Some(segment.seq.wrapping_add(1));
                continue;
            }
            if segment.payload.is_empty() {
                continue;
            }
            let base = state.sides[who].base.ok_or_else(|| bad("data before the handshake"))?;
            let offset = u64::from(segment.seq.wrapping_sub(base));
            // A keep-alive probe repeats the byte before the next one; at the very start that is "offset -1".
            if offset > u64::from(u32::MAX / 2) {
                continue;
            }
            truth.streams[*connection as usize][who].push((offset, segment.payload.len() as u32, number));
            state.sides[who].take(offset, segment.payload);
            state.advance(*connection, who, &mut truth.exchanges)?;
        }
        for (connection, state) in open.into_values() {
            state.unanswered(connection, &mut truth.exchanges);
        }
        for stream in truth.streams.iter_mut().flatten() {
            stream.sort_unstable();
        }
        truth.payload = truth
            .streams
            .iter()
            .flatten()
            .map(|s| s.iter().map(|(_, n, _)| u64::from(*n)).sum::<u64>())
            .sum();
        Ok(truth)
    }

    /// How many exchanges were answered.
    pub fn answered(&self) -> u64 {
        self.exchanges.iter().filter(|e| e.answer.is_some()).count() as u64
    }

    /// For each exchange: answered, and not a byte of it lost, when only these records were captured.
    pub fn intact(&self, records: &[u32]) -> Vec<bool> {
        let mut captured = vec![false; self.records as usize];
        for record in records {
            if let Some(seen) = captured.get_mut(*record as usize) {
                *seen = true;
            }
        }
        let lost: Vec<[Vec<(u64, u64)>; 2]> =
            self.streams.iter().map(|both| [0, 1].map(|who| holes(&both[who], &captured))).collect();
        let whole = |exchange: &Exchange| {
            exchange.answer.is_some()
                && [0, 1].into_iter().all(|who| {
                    let (from, to) = exchange.spans[who];
                    let holes = &lost[exchange.connection as usize][who];
                    let first = holes.partition_point(|(_, end)| *end <= from);
                    holes.get(first).is_none_or(|(begin, _)| *begin >= to)
                })
        };
        self.exchanges.iter().map(whole).collect()
    }

    /// Holds the lines of `fedisniff read --json` against the truth.
    pub fn score(&self, intact: &[bool], lines: impl Iterator<Item = Value>) -> Score {
        let by_id: HashMap<&str, usize> =
            self.exchanges.iter().enumerate().map(|(n, e)| (&*e.id, n)).collect();
        let mut score = Score { intact: intact.iter().filter(|i| **i).count() as u64, ..Score::default() };
        let mut seen = vec![false; self.exchanges.len()];
        for line in lines {
            score.reported += 1;
            let (request, response) = (&line["request"], &line["response"]);
            let [asked, answered] =
                [request, response].map(|m| header(m, "x-request-id").and_then(|id| by_id.get(id)));
            if let (Some(a), Some(b)) = (asked, answered)
                && a != b
            {
                score.mispaired += 1;
            }
            for (message, truth) in [
                (request, asked.map(|n| &self.exchanges[*n].sent)),
                (response, answered.and_then(|n| self.exchanges[*n].answer.as_ref().map(|(_, body)| body))),
            ] {
                let body = &message["body"];
                let Some(truth) = truth.filter(|_| body["complete"] == true) else { continue };
                match body["sha256"].as_str() {
                    Some(hash) if hash == &*truth.sha256 && body["size"] == truth.size => {}
                    Some(_) => score.wrong_bodies += 1,
                    None if truth.size == 0 && body["size"] == 0 => {}
                    None => score.unhashed += 1,
                }
            }
            let Some(n) = asked.copied() else { continue };
            score.repeated += u64::from(std::mem::replace(&mut seen[n], true));
            let exchange = &self.exchanges[n];
            let whole = answered == asked
                && [request, response].iter().all(|m| m["body"]["complete"] == true)
                && line["gaps"].as_array().is_some_and(Vec::is_empty)
                && request["method"] == *exchange.method
                && request["target"] == *exchange.target
                && exchange.answer.as_ref().is_some_and(|(status, _)| response["status"] == *status);
            match (whole, intact[n]) {
                (true, true) => score.whole += 1,
                (true, false) => score.false_whole += 1,
                (false, _) => {}
            }
        }
        score
    }
}

/// A message's header field, by its lower-case name.
fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let fields = message["headers"].as_array()?;
    fields.iter().find(|f| f[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))?[1].as_str()
}

/// The parts of a stream that no captured record holds.
fn holes(segments: &[(u64, u32, u32)], captured: &[bool]) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let (mut cursor, mut end) = (0, 0);
    for (offset, length, record) in segments {
        let after = offset + u64::from(*length);
        end = end.max(after);
        if !captured[*record as usize] {
            continue;
        }
        if *offset > cursor {
            holes.push((cursor, *offset));
        }
        cursor = cursor.max(after);
    }
    if end > cursor {
        holes.push((cursor, end));
    }
    holes
}

#[derive(Default)]
struct Connection {
    sides: [Side; 2],
    /// Requests without an answer yet, and answers whose request is not yet whole.
    waiting: [VecDeque<Message>; 2],
}

/// One direction: bytes that were not yet read as messages, and those that came too early.
#[derive(Default)]
struct Side {
    base: Option<u32>,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    at: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

struct Message {
    first: String,
    id: Box<str>,
    body: Body,
    span: (u64, u64),
}

impl Side {
    fn take(&mut self, offset: u64, bytes: &[u8]) {
        self.early.entry(offset).or_insert_with(|| bytes.to_vec());
        while let Some(entry) = self.early.first_entry() {
            let next = self.at + self.buffer.len() as u64;
            if *entry.key() > next {
                break;
            }
            let (offset, bytes) = entry.remove_entry();
            let known = ((next - offset) as usize).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[known..]);
        }
    }
}

impl Connection {
    fn advance(&mut self, connection: u32, who: usize, out: &mut Vec<Exchange>) -> io::Result<()> {
        while let Some((length, message)) = message(&self.sides[who])? {
            self.sides[who].buffer.drain(..length);
            self.sides[who].at += length as u64;
            self.waiting[who].push_back(message);
        }
        // A server may answer before it has the whole request, so either can wait for the other.
        while !self.waiting.iter().any(VecDeque::is_empty) {
            let [Some(request), Some(response)] = self.waiting.each_mut().map(VecDeque::pop_front) else {
                break;
            };
            if request.id != response.id {
                return Err(bad("request and response carry different ids"));
            }
            let status = response.first.split(' ').nth(1).and_then(|s| s.parse().ok());
            let answer = (status.ok_or_else(|| bad("no status"))?, response.body);
            out.push(exchange(connection, request, Some((answer, response.span))));
        }
        Ok(())
    }

    fn unanswered(self, connection: u32, out: &mut Vec<Exchange>) {
        let [requests, _] = self.waiting;
        out.extend(requests.into_iter().map(|request| exchange(connection, request, None)));
    }
}

fn exchange(connection: u32, request: Message, answer: Option<((u16, Body), (u64, u64))>) -> Exchange {
    let mut words = request.first.split(' ').map(Box::from);
    let (answer, span) = answer.map_or((None, (0, 0)), |(answer, span)| (Some(answer), span));
    Exchange {
        id: request.id,
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        sent: request.body,
        answer,
        connection,
        spans: [request.span, span],
    }
}

/// The first message in the buffer with its length, if it is all there.
fn message(side: &Side) -> io::Result<Option<(usize, Message)>> {
    let bytes = &side.buffer;
    let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|_| bad("a head that is not text"))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields: Vec<(String, &str)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim())).collect();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let rest = &bytes[head + 4..];
    let (length, mut body) = if field("transfer-encoding") == Some("chunked") {
        let Some(found) = chunked(rest)? else { return Ok(None) };
        found
    } else {
        let length =
            field("content-length").map_or(Ok(0), str::parse).map_err(|_| bad("no number as length"))?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        (length, body.to_vec())
    };
    if field("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&*body).read_to_end(&mut plain)?;
        body = plain;
    }
    let length = head + 4 + length;
    let sha256 = Sha256::digest(&body).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let id = field("x-request-id").ok_or_else(|| bad("a message without X-Request-Id"))?.into();
    let body = Body { size: body.len() as u64, sha256: sha256.into() };
    Ok(Some((length, Message { first, id, body, span: (side.at, side.at + length as u64) })))
}

/// A chunked body without trailers: how long it is with its framing, and the content.
fn chunked(bytes: &[u8]) -> io::Result<Option<(usize, Vec<u8>)>> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let size =
            std::str::from_utf8(&bytes[at..at + line]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or_else(|| bad("a chunk without a size"))?;
        let from = at + line + 2;
        let Some(content) = bytes.get(from..from + size + 2) else { return Ok(None) };
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((at, body)));
        }
        body.extend_from_slice(&content[..size]);
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::genpcap::{KeepAlive, keep_alive};
    use super::super::mangle::{Damage, plan};
    use super::super::pcap::Writer;
    use super::{Score, Truth};
    use serde_json::json;

    fn capture(exchanges: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        keep_alive(KeepAlive { connections: 8, exchanges, seed: 3 }, &mut writer).unwrap();
        writer.into_inner()
    }

    /// What a perfect decoder would print for one exchange.
    fn line(exchange: &super::Exchange) -> serde_json::Value {
        let (status, body) = exchange.answer.as_ref().unwrap();
        let message =
            |body: &super::Body| json!({"complete": true, "size": body.size, "sha256": body.sha256});
        json!({"request": {"method": exchange.method, "target": exchange.target,
                "headers": [["X-Request-Id", exchange.id]], "body": message(&exchange.sent)},
            "response": {"status": status, "headers": [["x-request-id", exchange.id]], "body": message(body)},
            "gaps": []})
    }

    #[test]
    fn every_exchange_of_an_undamaged_capture_is_found_and_intact() {
        let truth = Truth::read(&*capture(500)).unwrap();
        assert_eq!((truth.answered(), truth.exchanges.len()), (500, 500));
        let all: Vec<u32> = (0..truth.records).collect();
        assert!(truth.intact(&all).iter().all(|i| *i));
    }

    #[test]
    fn losing_records_harms_the_exchanges_whose_bytes_they_held_and_no_others() {
        let truth = Truth::read(&*capture(500)).unwrap();
        let plan = plan(truth.records, Damage::Drop(10_000), 5);
        let intact = truth.intact(&plan);
        let harmed = intact.iter().filter(|i| !**i).count();
        // One record in a hundred, about three with payload an exchange.
        assert!((5..30).contains(&harmed), "{harmed}");
    }

    #[test]
    fn a_perfect_decoder_scores_full_and_each_lie_is_counted() {
        let truth = Truth::read(&*capture(200)).unwrap();
        let all: Vec<u32> = (0..truth.records).collect();
        let mut intact = truth.intact(&all);
        let lines: Vec<_> = truth.exchanges.iter().map(line).collect();
        let score = truth.score(&intact, lines.clone().into_iter());
        assert_eq!((score.intact, score.whole, score.reported), (200, 200, 200));
        assert!(score.honest() && score.percent() == 100.0);

        let mut wrong = lines.clone();
        wrong[3]["response"]["body"]["sha256"] = json!("00");
        assert_eq!(truth.score(&intact, wrong.into_iter()).wrong_bodies, 1);
        let mut swapped = lines.clone();
        swapped[3]["response"] = lines[4]["response"].clone();
        assert_eq!(truth.score(&intact, swapped.into_iter()).mispaired, 1);
        let twice = lines.iter().chain(&lines[..2]).cloned();
        assert_eq!(truth.score(&intact, twice).repeated, 2);
        let mut marked = lines.clone();
        marked[9]["gaps"] = json!([{"offset": 1}]);
        let score = truth.score(&intact, marked.into_iter());
        assert_eq!((score.whole, score.honest()), (199, true));
        intact[7] = false;
        assert_eq!(
            truth.score(&intact, lines.into_iter()),
            Score { false_whole: 1, whole: 199, intact: 199, reported: 200, ..Score::default() }
        );
    }
}
