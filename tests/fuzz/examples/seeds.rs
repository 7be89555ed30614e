//! Writes the first inputs of each fuzz target into `corpus/`, made from the captures in `tests/traces` and from a few
//! lines of text: `RUSTFLAGS='--cfg fuzzing' cargo run --manifest-path tests/fuzz/Cargo.toml --example seeds`. What fuzzing adds to them, and
//! minimising takes away, is committed as well, so this is only needed when a target's input changes its form.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fuzz::conversation::{CAUSES, ENDS, Step, write};
use sniffer::capture::{Item, Source};
use sniffer::flow::{Direction, FlowId, Tracker};
use sniffer::frame::LinkType;
use sniffer::http::Message;
use sniffer::pipeline::{Config, Pipeline, Told};
use sniffer::stream::{Event, Reassembler};

/// As in `cargo xtask fuzz --minimise`.
const LIMIT: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus");
    let mut traces: Vec<PathBuf> =
        std::fs::read_dir(here.join("../traces"))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    // One capture is too large for one file in git, and lies there in parts.
    traces.retain(|t| t.to_string_lossy().ends_with(".zst"));
    traces.sort();
    for trace in &traces {
        let name = trace.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('-').next().unwrap_or_default();
        frames(&corpus, name, trace)?;
        conversations(&corpus, name, trace)?;
        readings(&corpus, name, trace)?;
    }
    h2(&corpus)?;
    websocket(&corpus)?;
    filters(&corpus)?;
    policies(&corpus)?;
    Ok(())
}

fn put(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = corpus.join(target);
    std::fs::create_dir_all(&folder)?;
    if bytes.is_empty() || bytes.len() > LIMIT { Ok(()) } else { std::fs::write(folder.join(name), bytes) }
}

/// The beginning of a capture: as frames, and as small captures of several formats.
fn frames(corpus: &Path, name: &str, trace: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut source = Source::open(trace)?;
    let (mut compact, mut records, mut link) = (Vec::new(), Vec::new(), LinkType::Ethernet);
    let mut size = 0;
    while let Some(item) = source.next()? {
        let Item::Frame(frame) = item else { continue };
        link = frame.link;
        if size + frame.bytes.len() < LIMIT - 600 {
            size += frame.bytes.len() + 16;
            records.push((frame.time.0, frame.bytes.to_vec()));
        }
        let number: u8 = match frame.link {
            LinkType::Ethernet => 0,
            LinkType::LinuxSll => 1,
            LinkType::LinuxSll2 => 2,
            LinkType::Raw => 3,
            LinkType::Nflog => 8,
            _ => 9,
        };
        if let Ok(length) = u8::try_from(frame.bytes.len())
            && compact.len() < LIMIT - 300
        {
            compact.extend_from_slice(&[number, 0, 0, length]);
            compact.extend_from_slice(frame.bytes);
        }
    }
    put(corpus, "frame", name, &compact)?;
    let number: u32 = match link {
        LinkType::LinuxSll => 113,
        LinkType::LinuxSll2 => 276,
        LinkType::Raw => 101,
        LinkType::Nflog => 239,
        _ => 1,
    };
    let pcap = pcap(&records, number, false);
    let pcapng = pcapng(&records, number);
    for target in ["capture", "pipeline"] {
        put(corpus, target, &format!("{name}-pcap"), &pcap)?;
        put(corpus, target, &format!("{name}-pcapng"), &pcapng)?;
        put(corpus, target, &format!("{name}-big-endian"), &self::pcap(&records, number, true))?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&pcap)?;
        put(corpus, target, &format!("{name}-gzip"), &gzip.finish()?)?;
        put(corpus, target, &format!("{name}-zstd"), &zstd::encode_all(&*pcapng, 19)?)?;
    }
    Ok(())
}

fn pcap(records: &[(u64, Vec<u8>)], link: u32, big: bool) -> Vec<u8> {
    let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut out = word(0xa1b2_c3d4).to_vec();
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    out.extend_from_slice(&version);
    out.extend([0, 0, 65_535, link].iter().flat_map(|n| word(*n)));
    for (time, bytes) in records {
        let length = bytes.len() as u32;
        let head = [(time / 1_000_000_000) as u32, (time % 1_000_000_000 / 1_000) as u32, length, length];
        out.extend(head.iter().flat_map(|n| word(*n)));
        out.extend_from_slice(bytes);
    }
    out
}

fn pcapng(records: &[(u64, Vec<u8>)], link: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let total = (padded + 12) as u32;
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&total.to_le_bytes());
        out.extend_from_slice(body);
        out.resize(out.len() + padded - body.len(), 0);
        out.extend_from_slice(&total.to_le_bytes());
    };
    block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let mut interface = (link as u16).to_le_bytes().to_vec();
    interface.extend_from_slice(&[0, 0, 0, 0, 4, 0]);
    // if_name "veth1", if_tsresol 10^-9, end of options.
    interface.extend_from_slice(&[
        2, 0, 5, 0, b'v', b'e', b't', b'h', b'1', 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0,
    ]);
    block(1, &interface);
    for (time, bytes) in records {
        let length = bytes.len() as u32;
        let head = [0, (time >> 32) as u32, *time as u32, length, length];
        let mut body: Vec<u8> = head.iter().flat_map(|n| n.to_le_bytes()).collect();
        body.extend_from_slice(bytes);
        block(6, &body);
    }
    // Interface statistics with drops.
    block(5, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out
}

/// The flows of a capture, as the stream stage tells them.
fn conversations(corpus: &Path, name: &str, trace: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut source = Source::open(trace)?;
    let mut tracker = Tracker::new(Default::default());
    let mut reassembler = Reassembler::new(Default::default());
    let mut flows: HashMap<FlowId, (bool, Vec<Step>)> = HashMap::new();
    let mut last = Default::default();
    while let Some(item) = source.next()? {
        let Item::Frame(frame) = item else { continue };
        last = frame.time;
        let (mut segments, mut events) = (Vec::new(), Vec::new());
        tracker.push(&frame, &mut segments);
        for segment in segments {
            reassembler.push(segment, &mut events);
        }
        take(&mut flows, events);
    }
    let mut events = Vec::new();
    reassembler.finish(last, &mut events);
    take(&mut flows, events);
    let mut flows: Vec<_> = flows.into_iter().collect();
    flows.sort_by_key(|(flow, _)| *flow);
    for (FlowId(number), (mid_stream, steps)) in flows.into_iter().take(12) {
        let first = steps.iter().find_map(|s| match s {
            Step::Data { bytes, .. } => Some(bytes.clone()),
            _ => None,
        });
        // TLS is one byte that says so, and the rest is noise.
        if first.is_none_or(|f| f.first() == Some(&0x16)) {
            continue;
        }
        let mut bytes = vec![if mid_stream { 2 } else { 0 }];
        for step in steps {
            let more = write(&[step]);
            if bytes.len() + more.len() > LIMIT {
                break;
            }
            bytes.extend(more);
        }
        put(corpus, "http1", &format!("{name}-{number}"), &bytes)?;
        // Byte by byte it is slow, so these are short.
        if bytes.len() < 1500 {
            put(corpus, "http1_cut", &format!("{name}-{number}"), &bytes)?;
        }
    }
    Ok(())
}

fn take(flows: &mut HashMap<FlowId, (bool, Vec<Step>)>, events: Vec<Event<'_>>) {
    let to_server = |direction| direction == Direction::ToServer;
    for event in events {
        let (flow, step) = match event {
            Event::Opened(opened) => {
                let mid_stream = opened.handshake == sniffer::flow::Handshake::MidStream;
                flows.insert(opened.flow, (mid_stream, Vec::new()));
                continue;
            }
            Event::Data(d) => {
                if let Some((_, steps)) = flows.get_mut(&d.flow) {
                    steps.extend(d.segments().map(|segment| Step::Data {
                        to_server: to_server(segment.direction),
                        bytes: segment.bytes.into_owned(),
                        segment_start: segment.segment_start,
                    }));
                }
                continue;
            }
            Event::Gap { flow, direction, length, cause, .. } => {
                let cause = CAUSES.iter().position(|c| *c == cause).unwrap_or(0) as u8;
                (flow, Step::Gap { to_server: to_server(direction), length, cause })
            }
            Event::End { flow, direction, kind, .. } => {
                let kind = ENDS.iter().position(|k| *k == kind).unwrap_or(0) as u8;
                (flow, Step::End { to_server: to_server(direction), kind })
            }
            Event::Conflict { flow, direction, .. } => {
                (flow, Step::Conflict { to_server: to_server(direction) })
            }
        };
        if let Some((_, steps)) = flows.get_mut(&flow) {
            steps.push(step);
        }
    }
}

/// The exchanges of a capture as text, one of each kind.
fn readings(corpus: &Path, name: &str, trace: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut source = Source::open(trace)?;
    let mut pipeline = Pipeline::new(Config::default());
    let mut told = Vec::new();
    while let Some(item) = source.next()? {
        if let Item::Frame(frame) = item {
            pipeline.push(&frame, &mut told);
        }
    }
    pipeline.finish(&mut told);
    let mut kinds: HashMap<String, usize> = HashMap::new();
    for Told { exchange, reading } in &told {
        let kind = reading
            .activity
            .as_ref()
            .and_then(|a| a.r#type.clone())
            .unwrap_or_else(|| reading.kind.id().into());
        let count = kinds.entry(kind.to_string()).or_default();
        *count += 1;
        if *count > 1 {
            continue;
        }
        let mut text = Vec::new();
        if let Some(request) = &exchange.request {
            let target = request.target.as_deref().unwrap_or_default();
            write!(text, "{} {target}", request.method.as_deref().unwrap_or_default())?;
            message(&mut text, &request.message);
        } else {
            text.push(0x1e);
        }
        if let Some(response) = &exchange.response {
            text.push(0x1e);
            write!(text, "{}", response.status.unwrap_or_default())?;
            message(&mut text, &response.message);
        }
        for (what, bytes) in
            ["exchange", "row"].iter().zip(sniffer::store::fuzzing::encode(exchange, reading))
        {
            put(corpus, "record", &format!("{name}-{kind}-{what}"), &bytes)?;
        }
        put(corpus, "reading", &format!("{name}-{kind}"), &text)?;
    }
    Ok(())
}

fn message(text: &mut Vec<u8>, message: &Message) {
    for (field, value) in message.headers.iter() {
        text.push(b'\n');
        text.extend_from_slice(field.unwrap_or_default());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.unwrap_or_default());
    }
    text.push(0x1e);
    text.extend_from_slice(&message.body.bytes[..message.body.bytes.len().min(2500)]);
}

/// Frames in the form of the h2 target: direction and type, flags, stream, length, payload.
fn h2(corpus: &Path) -> std::io::Result<()> {
    let frame = |to_client: u8, kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut bytes = vec![kind << 1 | to_client, flags, stream, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes
    };
    // RFC 7541 C.4.1 and C.6.1.
    let request = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let response =
        b"\x88\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\
        \x81\x66\xe0\x82\xa6\x2d\x1b\xff";
    let post = b"\x83\x86\x44\x86\x60\xd5\x48\x5f\x2b\xce\x41\x02ab";
    let conversations: [(&str, u8, Vec<Vec<u8>>); 6] = [
        (
            "get",
            0,
            vec![frame(0, 1, 5, 1, request), frame(1, 1, 4, 1, response), frame(1, 0, 1, 1, b"hello")],
        ),
        (
            "post",
            0,
            vec![
                frame(0, 1, 4, 1, post),
                frame(0, 0, 0, 1, b"ab"),
                frame(0, 0, 9, 1, b"\x02cd\0\0"),
                frame(1, 1, 5, 1, response),
            ],
        ),
        (
            "continued",
            0,
            vec![
                frame(0, 1, 1, 1, &request[..5]),
                frame(0, 9, 4, 1, &request[5..]),
                frame(1, 1, 5, 1, b"\x88"),
            ],
        ),
        (
            "reset",
            0,
            vec![
                frame(0, 1, 5, 1, request),
                frame(1, 3, 0, 1, b"\0\0\0\x08"),
                frame(1, 7, 0, 0, b"\0\0\0\x01\0\0\0\0"),
            ],
        ),
        (
            "trailers",
            0,
            vec![
                frame(0, 1, 5, 3, request),
                frame(1, 1, 4, 3, b"\x88"),
                frame(1, 0, 0, 3, b"x"),
                frame(1, 1, 5, 3, b"\x00\x01a\x01b"),
            ],
        ),
        (
            "mid-stream",
            2,
            vec![
                frame(0, 1, 5, 9, b"\x82\xbe\xbf\xc0"),
                frame(1, 1, 4, 9, b"\x88\xc1"),
                frame(1, 0, 1, 9, b"{}"),
                frame(0, 11, 40, 1, b""),
                frame(0, 6, 0, 0, b"12345678"),
            ],
        ),
    ];
    for (name, first, frames) in conversations {
        put(corpus, "h2", name, &std::iter::once(vec![first]).chain(frames).flatten().collect::<Vec<u8>>())?;
    }
    Ok(())
}

/// Frames in the form of the WebSocket target: how, head, length, payload.
fn websocket(corpus: &Path) -> std::io::Result<()> {
    // RFC 7692 §7.2.3.1: "Hello", compressed.
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let frame = |how: u8, head: u8, payload: &[u8]| {
        let mut bytes = vec![how, head, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes
    };
    for (name, first, frames) in [
        (
            "text",
            0,
            vec![
                frame(0, 0x81, b"Hello"),
                frame(1, 0x81, b"{\"event\":\"update\"}"),
                frame(1, 0x88, b"\x03\xe8"),
            ],
        ),
        (
            "fragments",
            0,
            vec![
                frame(1, 0x01, b"Hel"),
                frame(1, 0x89, b"ping"),
                frame(1, 0x80, b"lo"),
                frame(0, 0x8a, b"ping"),
            ],
        ),
        (
            "deflated",
            2,
            vec![frame(1, 0xc1, hello), frame(1, 0xc1, b"\xf2\x00\x11\x00\x00"), frame(0, 0xc1, hello)],
        ),
        (
            "holes",
            0,
            vec![
                frame(1, 0x81, b"abc"),
                frame(15, 9, b""),
                frame(1, 0x82, b"def"),
                frame(12, 0, b"\x81\x7e"),
            ],
        ),
    ] {
        put(
            corpus,
            "websocket",
            name,
            &std::iter::once(vec![first]).chain(frames).flatten().collect::<Vec<u8>>(),
        )?;
    }
    Ok(())
}

fn filters(corpus: &Path) -> std::io::Result<()> {
    let texts = [
        "response.status >= 400",
        "activity.type == \"Follow\" && signature.verdict == \"valid\"",
        "request.path.startsWith(\"/users/\") || request.host.matches('^srv[0-9]+[.]')",
        "request.method in [\"GET\", \"HEAD\"] ? true : size(gaps) > 0",
        "body.text.contains('☃') && !has(request.query)",
        "lints.exists(l, l.severity == 'error')",
        "(((1 + 2) * 3) % 4) == 1",
        "response.status == ",
        "nosuchname == 1",
        "timing.total_us > 1000\n&& origin.host != null",
    ];
    for (number, text) in texts.iter().enumerate() {
        put(corpus, "filter", &format!("{number:02}"), text.as_bytes())?;
    }
    Ok(())
}

/// Small clusters, each with a policy of another kind.
fn policies(corpus: &Path) -> std::io::Result<()> {
    const CLUSTER: &str = "\
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.42.0.0/24}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {pod: a}}, spec: {nodeName: n1, containers: [{ports: [{name: web, containerPort: 80}]}]}, status: {podIPs: [{ip: 10.42.0.1}, {ip: 'fd42::1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {pod: b}}, spec: {nodeName: n1, containers: [{ports: [{name: web, containerPort: 8080}]}]}, status: {podIPs: [{ip: 10.42.0.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: x}, spec: {type: NodePort, clusterIP: 10.43.0.9, selector: {pod: b}, ports: [{port: 80, targetPort: web, nodePort: 30080}]}}
---
";
    let specs = [
        "{podSelector: {}, policyTypes: [Egress], egress: []}",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}",
        "{podSelector: {matchLabels: {pod: a}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.42.0.2/32]}}, {ipBlock: {cidr: '::/0'}}]}]}",
        "{podSelector: {}, egress: [{ports: [{port: web}, {port: 53, protocol: UDP}, {port: 1, endPort: 99}]}]}",
        "{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a]}]}, ingress: [{from: [{namespaceSelector: {}, podSelector: {}}], ports: [{port: web}]}]}",
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{}]}]}",
        "&a {podSelector: {}, egress: [{to: &t [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}]}, {to: *t}]}",
    ];
    for (number, spec) in specs.iter().enumerate() {
        let policy = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec: {spec}\n"
        );
        put(corpus, "policy", &format!("{number:02}"), format!("{CLUSTER}{policy}").as_bytes())?;
    }
    put(
        corpus,
        "policy",
        "list",
        b"{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod}, null, 7]}",
    )
}
