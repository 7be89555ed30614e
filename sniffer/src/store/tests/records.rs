//! What is written is what is read: of every exchange, and of every version that ever was.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::record::{self, BodyRef};
use super::*;
use crate::activitypub::{Digest, Link, Lint, Scheme, Severity, Signature, SignatureVerdict, Visibility};
use crate::filter::RowKeys;
use crate::http::{Anomaly, AnomalyKind, GapMark, Interim, WebSocket, WsMessage};
use crate::stream::GapCause;

fn text() -> BoxedStrategy<Box<str>> {
    prop_oneof![
        Just("".into()),
        "[a-z/:.@]{1,12}".prop_map(Box::from),
        "\\PC{0,4}".prop_map(Box::from),
        Just("x".repeat(300).into()),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<Vec<Box<str>>> {
    vec(text(), 0..3).boxed()
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)].boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    prop_oneof![
        (0..4_000_000_u64).prop_map(|n| Timestamp(START + n - 1000)),
        any::<u64>().prop_map(Timestamp)
    ]
    .boxed()
}

fn headers() -> BoxedStrategy<Headers> {
    vec(
        (option::weighted(0.9, vec(any::<u8>(), 0..12)), option::weighted(0.9, vec(any::<u8>(), 0..12))),
        0..5,
    )
    .prop_map(|fields| {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name.as_deref(), value.as_deref());
        }
        headers
    })
    .boxed()
}

fn body() -> BoxedStrategy<Body> {
    let hash = || option::of(any::<[u8; 32]>());
    (
        (number(), number(), number(), option::of(text()), any::<bool>()),
        (hash(), hash(), any::<bool>()),
        vec(any::<u8>(), 0..40),
        vec((number(), number()), 0..3),
    )
        .prop_map(
            |((wire_size, coded_size, size, encoding, complete), (sha256, coded, same), bytes, holes)| Body {
                wire_size,
                coded_size,
                size,
                encoding,
                complete,
                sha256,
                coded_sha256: if same { sha256 } else { coded },
                bytes,
                holes,
            },
        )
        .boxed()
}

fn message() -> BoxedStrategy<Message> {
    (any::<(u8, u8)>(), headers(), headers(), body(), time(), time())
        .prop_map(|(version, headers, trailers, body, first_byte, last_byte)| Message {
            version,
            headers,
            trailers,
            body,
            first_byte,
            last_byte,
        })
        .boxed()
}

fn websocket() -> BoxedStrategy<WebSocket> {
    let one = (
        any::<bool>(),
        time(),
        any::<u8>(),
        any::<u32>(),
        number(),
        any::<bool>(),
        option::of(any::<[u8; 32]>()),
        vec(any::<u8>(), 0..20),
    )
        .prop_map(|(to_server, time, opcode, frames, size, complete, sha256, bytes)| WsMessage {
            to_server,
            time,
            opcode,
            frames,
            size,
            complete,
            sha256,
            bytes,
        });
    (number(), vec(one, 0..3), number(), option::of(text()), option::of(any::<u16>()))
        .prop_map(|(frames, messages, messages_dropped, extensions, close_code)| WebSocket {
            frames,
            messages,
            messages_dropped,
            extensions,
            close_code,
        })
        .boxed()
}

pub(super) fn exchange() -> BoxedStrategy<Exchange> {
    let address = || {
        select(vec!["10.42.0.2:41234", "[fd00::12]:8080", "[fe80::1%3]:1", "0.0.0.0:0"])
            .prop_map(|a| a.parse().unwrap())
    };
    let request =
        (option::of(text()), option::of(text()), option::of(text()), option::of(text()), message()).prop_map(
            |(method, target, host, scheme, message)| Request { method, target, host, scheme, message },
        );
    let response = (option::of(any::<u16>()), text(), message())
        .prop_map(|(status, reason, message)| Response { status, reason, message });
    let interim = (any::<u16>(), time(), headers()).prop_map(|(status, time, headers)| Interim {
        status,
        time,
        headers,
    });
    let gap = (
        any::<bool>(),
        number(),
        number(),
        select(vec![
            GapCause::AckedUnseen,
            GapCause::CaptureLoss,
            GapCause::Truncated,
            GapCause::Budget,
            GapCause::Deadline,
        ]),
    )
        .prop_map(|(to_server, offset, length, cause)| GapMark { to_server, offset, length, cause });
    let anomaly = (select(AnomalyKind::ALL), text()).prop_map(|(kind, detail)| Anomaly { kind, detail });
    (
        (time(), any::<u64>(), time(), address(), address(), option::of(text())),
        select(vec![Protocol::Http10, Protocol::Http11, Protocol::H2c]),
        option::weighted(0.9, request),
        option::weighted(0.9, response),
        vec(interim, 0..2),
        option::of(websocket()),
        vec(gap, 0..3),
        vec(anomaly, 0..3),
    )
        .prop_map(
            |(
                (started, rest, ended, client, server, name),
                protocol,
                request,
                response,
                interim,
                websocket,
                gaps,
                anomalies,
            )| {
                Exchange {
                    id: ExchangeId::new(started, rest),
                    flow: FlowId(0),
                    ends: Ends { client, server },
                    interface: Interface::Unknown,
                    interface_name: name.map(Arc::from),
                    protocol,
                    started,
                    ended,
                    request,
                    response,
                    interim,
                    websocket,
                    gaps,
                    anomalies,
                }
            },
        )
        .boxed()
}

fn link() -> BoxedStrategy<Link> {
    (any::<[u8; 16]>(), any::<bool>()).prop_map(|(id, proven)| Link { id: ExchangeId(id), proven }).boxed()
}

pub(super) fn reading() -> BoxedStrategy<Reading> {
    let visibility = || {
        option::of(select(vec![
            Visibility::Public,
            Visibility::Unlisted,
            Visibility::Followers,
            Visibility::Direct,
        ]))
    };
    let source = || {
        option::of(select(vec![
            OriginSource::ForwardedFor,
            OriginSource::KeyId,
            OriginSource::UserAgent,
            OriginSource::Learnt,
            OriginSource::Peer,
        ]))
    };
    let activity = (vec(option::of(text()), 8), texts(), texts(), visibility()).prop_map(
        |(mut t, to, cc, visibility)| {
            let mut next = || t.pop().flatten();
            Activity {
                id: next(),
                r#type: next(),
                actor: next(),
                object: next(),
                object_type: next(),
                inner: next(),
                target: next(),
                to,
                cc,
                visibility,
                excerpt: next(),
            }
        },
    );
    let signature = (
        option::of(select(vec![Scheme::Cavage, Scheme::Rfc9421])),
        option::of(text()),
        option::of(text()),
        texts(),
        select(vec![
            SignatureVerdict::Valid,
            SignatureVerdict::Invalid,
            SignatureVerdict::KeyNotSeen,
            SignatureVerdict::NotCheckable,
            SignatureVerdict::Unsigned,
        ]),
        option::of(text()),
    )
        .prop_map(|(scheme, key_id, algorithm, covered, verdict, explanation)| Signature {
            scheme,
            key_id,
            algorithm,
            covered,
            verdict,
            explanation,
        });
    let origin = (option::of(text()), source(), option::of(text()), source(), option::of(text()), source())
        .prop_map(|(address, address_from, host, host_from, software, software_from)| Origin {
            address,
            address_from,
            host,
            host_from,
            software,
            software_from,
        });
    let lint = (text(), select(vec![Severity::Info, Severity::Warn, Severity::Error]), text())
        .prop_map(|(id, severity, detail)| Lint { id, severity, detail });
    (
        select(Kind::ALL),
        (text(), vec((text(), text()), 0..3)),
        option::of(activity),
        signature,
        select(vec![Digest::Match, Digest::Mismatch, Digest::Absent, Digest::NotCheckable]),
        option::of(origin),
        vec(lint, 0..3),
        option::of(text()),
        (any::<bool>(), option::of(link()), vec(link(), 0..3)),
    )
        .prop_map(
            |(
                kind,
                (template, slots),
                activity,
                signature,
                digest,
                origin,
                lints,
                reason,
                (federation, caused_by, caused),
            )| {
                Reading {
                    kind,
                    sentence: Sentence {
                        template: template.into_string().into(),
                        slots: slots
                            .into_iter()
                            .map(|(name, value)| (name.into_string().into(), value))
                            .collect(),
                    },
                    activity,
                    signature,
                    digest,
                    origin,
                    lints,
                    reason,
                    federation,
                    caused_by,
                    caused,
                }
            },
        )
        .boxed()
}

/// A record with its bodies behind it.
fn encode(exchange: &Exchange, reading: &Reading) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut record, mut bodies) = (Vec::new(), Vec::new());
    let mut keep = |bytes: &[u8], _: Option<&[u8; 32]>| {
        bodies.push(bytes.to_vec());
        BodyRef::Chunk(bodies.len() as u32 - 1)
    };
    record::encode(exchange, reading, &mut keep, &mut record);
    (record, bodies)
}

fn decode(record: &[u8], bodies: &[Vec<u8>]) -> Result<(Exchange, Reading), record::Damaged> {
    record::decode(record, &mut |body| match body {
        BodyRef::Empty => Ok(Vec::new()),
        BodyRef::Chunk(n) => bodies.get(n as usize).cloned().ok_or(record::Damaged),
        BodyRef::Shared(_) => Err(record::Damaged),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_exchange_comes_back_as_it_was(exchange in exchange(), reading in reading()) {
        let (record, bodies) = encode(&exchange, &reading);
        let (exchange_again, reading_again) = decode(&record, &bodies).unwrap();
        prop_assert_eq!(&exchange_again, &exchange);
        prop_assert_eq!(&reading_again, &reading);

        let (row, keys) = (Row::new(&exchange, &reading), RowKeys::new(&exchange, &reading));
        let mut record = Vec::new();
        record::encode_row(&row, &keys, &mut record);
        prop_assert_eq!(record::decode_row(&record).unwrap(), (row, keys));
    }

    #[test]
    fn a_damaged_record_is_told_and_never_more_than_that(
        exchange in exchange(),
        reading in reading(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut record, bodies) = encode(&exchange, &reading);
        prop_assert_eq!(decode(&record[..cut.index(record.len())], &bodies), Err(record::Damaged));
        for (at, value) in damage {
            let at = at.index(record.len());
            record[at] = value;
        }
        // It may still decode, to something else; it must not panic or take memory without end.
        let _ = decode(&record, &bodies);
        let _ = record::decode_row(&record);
    }

    #[test]
    fn the_store_gives_back_what_it_was_given(told in vec((exchange(), reading()), 1..12)) {
        let at = place();
        let store = Store::open(&at.path, Options::default()).unwrap();
        let mut batch: Vec<Told> =
            told.into_iter().map(|(e, reading)| Told { exchange: Box::new(e), reading }).collect();
        batch.sort_by_key(|t| t.exchange.id);
        batch.dedup_by_key(|t| t.exchange.id);
        store.append(&batch).unwrap();
        prop_assert_eq!(everything(&store), batch);
    }
}

/// The exchange of the golden records: something of everything.
fn golden() -> (Exchange, Reading) {
    let mut told = told(4, 1_000_000);
    let exchange = &mut *told.exchange;
    exchange.gaps =
        vec![GapMark { to_server: true, offset: 5, length: 1_000_000, cause: GapCause::Deadline }];
    exchange.anomalies = vec![Anomaly { kind: AnomalyKind::BareLf, detail: "twice".into() }];
    exchange.interim = vec![Interim { status: 103, time: Timestamp(START + 9), headers: Headers::default() }];
    exchange.ends.client = "[fd00::1]:443".parse().unwrap();
    exchange.request.as_mut().unwrap().message.body.holes = vec![(3, 4)];
    exchange.request.as_mut().unwrap().message.body.sha256 = Some([7; 32]);
    exchange.websocket = Some(WebSocket {
        frames: 3,
        messages: vec![WsMessage {
            to_server: true,
            time: Timestamp(START + 10),
            opcode: 1,
            frames: 2,
            size: 5,
            complete: true,
            sha256: None,
            bytes: b"hello".to_vec(),
        }],
        messages_dropped: 1,
        extensions: Some("permessage-deflate".into()),
        close_code: Some(1000),
    });
    told.reading.lints =
        vec![Lint { id: "date-skew".into(), severity: Severity::Warn, detail: "9 h".into() }];
    told.reading.reason = Some("not signed".into());
    told.reading.signature.scheme = Some(Scheme::Rfc9421);
    told.reading.signature.covered = vec!["@method".into()];
    told.reading.caused_by = Some(Link { id: ExchangeId([1; 16]), proven: true });
    told.reading.caused = vec![Link { id: ExchangeId([2; 16]), proven: false }];
    (*told.exchange, told.reading)
}

/// Records of every version that was ever written, kept as files: number of bodies, each with its length, the record.
/// `FEDISNIFF_BLESS=1` writes the file of the present version, once, when there is a new one.
#[test]
fn records_of_every_version_stay_readable() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/testdata");
    let file = |version: u8| folder.join(format!("record-v{version}.bin"));
    let (exchange, reading) = golden();
    let (record, bodies) = encode(&exchange, &reading);
    let mut written = vec![bodies.len() as u8];
    for body in &bodies {
        written.extend_from_slice(&(body.len() as u32).to_le_bytes());
        written.extend_from_slice(body);
    }
    written.extend_from_slice(&record);
    if std::env::var_os("FEDISNIFF_BLESS").is_some() && !file(record::VERSION).exists() {
        std::fs::write(file(record::VERSION), &written).unwrap();
    }
    for version in 1..=record::VERSION {
        let bytes = std::fs::read(file(version)).expect("a record of each version");
        let mut rest = &bytes[1..];
        let mut bodies = Vec::new();
        for _ in 0..bytes[0] {
            let (length, after) = rest.split_first_chunk::<4>().unwrap();
            let (body, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            bodies.push(body.to_vec());
            rest = after;
        }
        assert_eq!(rest[0], version);
        let mut expected = (exchange.clone(), reading.clone());
        if version < 2 {
            (expected.1.caused_by, expected.1.caused) = (None, Vec::new());
        }
        assert_eq!(decode(rest, &bodies).unwrap(), expected, "version {version}");
        if version == record::VERSION {
            assert!(bytes == written, "the form of version {version} has changed: it needs a new version");
        }
    }
}

#[test]
fn large_bodies_are_stored_once() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    let picture: Vec<u8> = (0..300_000_u64).map(|n| mix(n) as u8).collect();
    let with_picture = |n: u64| {
        let mut told = told(n * 50, 1_000_000_000);
        let response = told.exchange.response.get_or_insert_with(|| Response {
            status: Some(200),
            reason: "OK".into(),
            message: Message::default(),
        });
        response.message.body.bytes = picture.clone();
        told
    };
    for n in 0..40 {
        store.append(&[with_picture(n)]).unwrap();
    }
    assert_eq!(store.count(&all()).unwrap(), (40, true));
    for told in everything(&store) {
        assert!(told.exchange.response.unwrap().message.body.bytes == picture);
    }
    drop(store);
    let length = std::fs::metadata(&at.path).unwrap().len();
    assert!(length < 2_000_000, "{length} octets for one picture");
}
