//! What the fuzz targets need of the store's insides; built only for them.

use super::chunk::{Frame, Meta};
use super::record::{self, BodyRef};

/// Takes octets as each thing that the store reads back from its file. They are refused, or they mean something that
/// is the same after it was written and read again.
pub fn record(octets: &[u8]) {
    let mut fetched = Vec::new();
    let mut fetch = |reference: BodyRef| {
        // Any octets do; they only have to be found again in the same place.
        let body = vec![fetched.len() as u8; 1 + fetched.len() % 5];
        fetched.push((reference, body.clone()));
        Ok(body)
    };
    if let Ok((exchange, reading)) = record::decode(octets, &mut fetch) {
        let mut kept = Vec::new();
        let mut again = Vec::new();
        let mut keep = |bytes: &[u8], _: Option<&[u8; 32]>| {
            kept.push(bytes.to_vec());
            BodyRef::Chunk(kept.len() as u32 - 1)
        };
        record::encode(&exchange, &reading, &mut keep, &mut again);
        let mut fetch = |reference| match reference {
            BodyRef::Chunk(n) => kept.get(n as usize).cloned().ok_or(record::Damaged),
            BodyRef::Empty | BodyRef::Shared(_) => Err(record::Damaged),
        };
        let back = record::decode(&again, &mut fetch);
        assert!(back == Ok((exchange, reading)), "an exchange changed when it was written and read");
    }
    if let Ok((row, keys)) = record::decode_row(octets) {
        let mut again = Vec::new();
        record::encode_row(&row, &keys, &mut again);
        let back = record::decode_row(&again);
        assert!(back == Ok((row, keys)), "a row changed when it was written and read");
    }
    if let Ok(frame) = Frame::from_bytes(octets.to_vec()) {
        for n in 0..octets.len() {
            let _any: Result<&[u8], _> = frame.get(n);
        }
    }
    if let Ok(meta) = Meta::from_bytes(octets) {
        assert!(Meta::from_bytes(&meta.to_bytes()) == Ok(meta), "what is known of a chunk changed");
    }
}

/// The record of an exchange, and that of its row: for seeds.
pub fn encode(exchange: &crate::http::Exchange, reading: &crate::activitypub::Reading) -> [Vec<u8>; 2] {
    let (mut one, mut row) = (Vec::new(), Vec::new());
    let mut bodies = 0;
    let mut keep = |_: &[u8], _: Option<&[u8; 32]>| {
        bodies += 1;
        BodyRef::Chunk(bodies - 1)
    };
    record::encode(exchange, reading, &mut keep, &mut one);
    let keys = crate::filter::RowKeys::new(exchange, reading);
    record::encode_row(&crate::view::Row::new(exchange, reading), &keys, &mut row);
    [one, row]
}
