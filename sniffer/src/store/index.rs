//! What is written beside the chunks so that a page is found without looking at all of them: time cut into buckets,
//! terms (a field and its value, hashed), and the cells of the strip. Pure arithmetic, and part of the file's format.

use super::Bar;
use crate::activitypub::Kind;
use crate::filter::{Indexed, Plan, RowKeys};
use crate::view::Row;

/// Namespace for the arithmetic of time.
pub(super) struct Cell;

impl Cell {
    /// A bucket of the index is 2^30 ns, a little more than a second. Ids sort by time, so the buckets follow one
    /// another in the order of ids, and only within one does anything have to be sorted.
    pub(super) const BUCKET_BITS: u32 = 30;
    /// The widths of the strip's cells: 2^20 ns is a millisecond, 2^44 about five hours. A strip is added up from the
    /// widest cells of which each bar still has two, so that no strip reads more than a few thousand.
    pub(super) const STRIP_BITS: [u32; 7] = [20, 24, 28, 32, 36, 40, 44];

    pub(super) fn bucket(nanos: u64) -> u64 {
        nanos >> Self::BUCKET_BITS
    }

    /// The place of a time within its bucket.
    pub(super) fn offset(nanos: u64) -> u32 {
        (nanos & ((1 << Self::BUCKET_BITS) - 1)) as u32
    }

    pub(super) fn nanos(bucket: u64, offset: u32) -> u64 {
        (bucket << Self::BUCKET_BITS) | u64::from(offset)
    }

    /// Which of [`Self::STRIP_BITS`] serves bars of that width.
    pub(super) fn strip_level(bar_nanos: u64) -> usize {
        Self::STRIP_BITS.iter().rposition(|bits| (2_u64 << bits) <= bar_nanos).unwrap_or(0)
    }
}

/// Fields whose values are terms; the numbers are part of the format.
const ACTIVITY_ID: u8 = 1;
const ACTOR: u8 = 2;
const ORIGIN_HOST: u8 = 3;
const REQUEST_HOST: u8 = 4;
const ACTIVITY_TYPE: u8 = 5;
const KIND: u8 = 6;
const ORIGIN_HOST_AND_TYPE: u8 = 7;
const REQUEST_HOST_AND_TYPE: u8 = 8;
const STATUS_CLASS: u8 = 9;
const FEDERATION: u8 = 10;

/// FNV-1a of 64 bits with a finishing mix: fixed for ever, unlike the hashers of maps. That two terms may share a hash
/// costs time, never truth: what an index gives is matched again.
fn term(field: u8, parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    add(field);
    for part in parts {
        part.bytes().for_each(&mut add);
        // No text holds this octet, so ("a", "bc") and ("ab", "c") differ.
        add(0xff);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// Of any text, for what must come out alike in every run.
pub(super) fn hash(text: &str) -> u64 {
    term(0, &[text])
}

fn status_class(class: u16) -> u64 {
    let digit = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].get(usize::from(class)).copied();
    term(STATUS_CLASS, &[digit.unwrap_or("9")])
}

/// Of exchanges in the federation view.
pub(super) fn federation() -> u64 {
    term(FEDERATION, &[])
}

/// What a row is found by.
pub(super) fn terms(row: &Row, keys: &RowKeys) -> impl Iterator<Item = u64> {
    let one = |field, value: &Option<Box<str>>| value.as_deref().map(|v| term(field, &[v]));
    let two = |field, a: &Option<Box<str>>, b: &Option<Box<str>>| {
        a.as_deref().zip(b.as_deref()).map(|(a, b)| term(field, &[a, b]))
    };
    [
        one(ACTIVITY_ID, &row.activity_id),
        one(ACTOR, &keys.actor),
        one(ORIGIN_HOST, &keys.origin_host),
        one(REQUEST_HOST, &keys.request_host),
        one(ACTIVITY_TYPE, &row.activity),
        Some(term(KIND, &[&row.kind])),
        two(ORIGIN_HOST_AND_TYPE, &keys.origin_host, &row.activity),
        two(REQUEST_HOST_AND_TYPE, &keys.request_host, &row.activity),
        // 0 is no answer; what is no status code of HTTP at all is 9.
        Some(status_class(row.status.map_or(0, |s| (s / 100).min(9)))),
        row.federation.then(federation),
    ]
    .into_iter()
    .flatten()
}

/// Terms of which an exchange must have one.
pub(super) type AnyOf = Vec<u64>;

/// More alternatives than this are not looked up: each costs a search in every bucket.
const MAX_ALTERNATIVES: usize = 32;

/// What an exchange must have to match: one of each.
pub(super) fn required(plan: &Plan, only_federation: bool) -> Vec<AnyOf> {
    let field = |field: Indexed| plan.any_of.iter().find(|(f, _)| *f == field).map(|(_, values)| values);
    let mut required: Vec<AnyOf> = Vec::new();
    let mut done: Vec<Indexed> = Vec::new();
    if let Some(types) = field(Indexed::ActivityType) {
        for (host, number) in
            [(Indexed::OriginHost, ORIGIN_HOST_AND_TYPE), (Indexed::RequestHost, REQUEST_HOST_AND_TYPE)]
        {
            if let Some(hosts) = field(host)
                && hosts.len() * types.len() <= MAX_ALTERNATIVES
            {
                required
                    .push(hosts.iter().flat_map(|h| types.iter().map(|t| term(number, &[h, t]))).collect());
                done.extend([host, Indexed::ActivityType]);
            }
        }
    }
    for (field, values) in &plan.any_of {
        if values.len() > MAX_ALTERNATIVES || done.contains(field) {
            continue;
        }
        let number = match field {
            Indexed::ActivityId => ACTIVITY_ID,
            Indexed::Actor => ACTOR,
            Indexed::OriginHost => ORIGIN_HOST,
            Indexed::RequestHost => REQUEST_HOST,
            Indexed::ActivityType => ACTIVITY_TYPE,
            Indexed::Kind => KIND,
        };
        required.push(values.iter().map(|v| term(number, &[v])).collect());
    }
    if let Some((low, high)) = plan.status {
        let classes: Vec<u64> = ((low / 100).min(9)..=(high / 100).min(9)).map(status_class).collect();
        // Almost all of them rule nothing out.
        if classes.len() <= 6 {
            required.push(classes);
        }
    }
    if only_federation && required.is_empty() {
        required.push(vec![federation()]);
    }
    required
}

/// What a row adds to its bars.
pub(super) fn bar(row: &Row) -> Bar {
    let delivery = &*row.kind == Kind::InboxDelivery.id();
    let failed = row.status.is_none_or(|s| s >= 400);
    Bar {
        deliveries: u32::from(row.federation && delivery),
        fetches: u32::from(row.federation && !delivery),
        failures: u32::from(row.federation && failed),
        gaps: u32::from(row.gaps > 0),
    }
}
