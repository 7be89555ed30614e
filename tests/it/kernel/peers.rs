//! A server and a client over real TCP, which know what they said to each other to the last octet.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sniffer::view::hex;
use tests::federation::Random;

use super::node::Node;

/// An exchange as the ends know it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Talk {
    pub(super) target: String,
    /// Octets of the request's body, and their SHA-256.
    pub(super) sent: (u64, String),
    /// Octets of the response's body, and their SHA-256.
    pub(super) answered: (u64, String),
    /// The address that the server has.
    pub(super) server: String,
    /// Nothing is missing, nothing is wrong.
    pub(super) whole: bool,
}

/// Starts a server in a pod. It answers `/NUMBER/…` with so many octets.
pub(super) fn serve(node: &Node, pod: &str, address: &str) {
    let address = address.to_owned();
    let (up, is_up) = mpsc::channel();
    node.inside(pod, move || {
        let listener = TcpListener::bind(&address).expect("a free port");
        up.send(()).expect("the test waits");
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    is_up.recv_timeout(super::watch::PATIENCE).expect("the server listens");
}

/// Until the client goes. Whatever fails, fails at the client, which tells.
fn answer(stream: TcpStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, length) = head(&mut reader)?;
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        let body = body_of(first.split(' ').nth(1)?);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

/// The first line, and how long the body is.
fn head(reader: &mut BufReader<TcpStream>) -> Option<(String, u64)> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    let length = text.lines().find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
    Some((text.lines().next()?.to_owned(), length))
}

/// The body that `/NUMBER/…` has: no two targets have the same.
fn body_of(target: &str) -> Vec<u8> {
    let length: usize = target.split('/').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    octets(target, length)
}

fn octets(seed: &str, length: usize) -> Vec<u8> {
    let hash = Sha256::digest(seed);
    let mut random = Random(hash.iter().take(8).fold(1, |number, byte| number << 8 | u64::from(*byte)));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A connection to a server, kept.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    server: String,
}

impl Client {
    /// Connects; called on a thread inside a pod. `server` is the address that the server really has.
    pub(super) fn connect(address: &str, server: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let stream = TcpStream::connect_timeout(&address, super::watch::PATIENCE)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        stream.set_read_timeout(Some(super::watch::PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream), server: server.to_owned() }
    }

    /// Asks with a body of so many octets, and checks the answer.
    pub(super) fn ask(&mut self, target: &str, sent: usize) -> Talk {
        let sent = octets(&format!("to {target}"), sent);
        let method = if sent.is_empty() { "GET" } else { "POST" };
        let length =
            if sent.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", sent.len()) };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: kernel.test\r\n{length}\r\n");
        self.stream.get_mut().write_all(&[head.as_bytes(), &sent].concat()).expect("the server reads");
        let (_, length) = self::head(&mut self.stream).expect("an answer");
        let mut answered = vec![0; length as usize];
        self.stream.read_exact(&mut answered).expect("the whole answer");
        assert!(answered == body_of(target), "{target}: TCP gives what was sent");
        Talk {
            target: target.to_owned(),
            sent: size_and_hash(&sent),
            answered: size_and_hash(&answered),
            server: self.server.clone(),
            whole: true,
        }
    }
}

/// So many exchanges on one connection, of sizes from nothing to some hundred KiB, and a short rest after each.
pub(super) fn chat(address: &str, server: &str, name: &str, exchanges: usize, rest: Duration) -> Vec<Talk> {
    let mut client = Client::connect(address, server);
    let mut random = Random(name.bytes().fold(7, |number, byte| number * 31 + u64::from(byte)));
    let size = |random: &mut Random| match random.below(8) {
        0 => 0,
        1..=5 => random.below(3_000) as usize,
        6 => random.below(40_000) as usize,
        _ => random.below(300_000) as usize,
    };
    (0..exchanges)
        .map(|number| {
            let target = format!("/{}/{name}/{number}", size(&mut random));
            let sent = if random.below(2) == 0 { 0 } else { size(&mut random) };
            let talk = client.ask(&target, sent);
            std::thread::sleep(rest);
            talk
        })
        .collect()
}

fn size_and_hash(bytes: &[u8]) -> (u64, String) {
    (bytes.len() as u64, hex(&Sha256::digest(bytes)))
}

/// The same as told by fedisniff.
pub(super) fn told(exchange: &Value) -> Talk {
    let text = |pointer: &str| exchange.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    let body = |side: &str| {
        let body = &exchange[side]["body"];
        let size = body["size"].as_u64().unwrap_or(0);
        // Without a body there is nothing to hash.
        let hash = body["sha256"].as_str().map_or_else(|| size_and_hash(&[]).1, str::to_owned);
        (size, hash)
    };
    let complete = |side: &str| exchange[side]["body"]["complete"] == true;
    let none = |field: &str| exchange[field].as_array().is_some_and(Vec::is_empty);
    Talk {
        target: text("/request/target"),
        sent: body("request"),
        answered: body("response"),
        server: text("/server/address"),
        whole: none("gaps") && none("anomalies") && complete("request") && complete("response"),
    }
}

/// What was told is what was said, each exchange once, in whatever order.
#[track_caller]
pub(super) fn same(exchanges: &[Value], talks: &[Talk]) {
    let mut told: Vec<Talk> = exchanges.iter().map(told).collect();
    let mut said = talks.to_vec();
    told.sort();
    said.sort();
    let more: Vec<_> = told.iter().filter(|t| !said.contains(t)).collect();
    let missing: Vec<_> = said.iter().filter(|t| !told.contains(t)).collect();
    assert!(
        more.is_empty() && missing.is_empty(),
        "told and not said: {more:#?}\nsaid and not told: {missing:#?}"
    );
    assert_eq!(told.len(), said.len(), "some were told more than once: {told:#?}");
}
