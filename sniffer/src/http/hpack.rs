//! HPACK (RFC 7541) for a listener: header blocks of one direction in, fields out, each name and value `None` where it
//! is unknown. The dynamic table may be lost (mid-stream pick-up, a gap, a damaged block); what is inserted afterwards
//! is known again, because entries are counted from the newest. It never guesses what an entry was, and never panics.

use std::collections::VecDeque;

use super::Field;

/// What is wrong with a header block. The fields before it were given; the dynamic table is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Error {
    /// The block ends inside a representation.
    #[error("the block ends inside a field")]
    Truncated,
    /// An integer beyond 32 bits (RFC 7541 §5.1: must be treated as a decoding error).
    #[error("an integer is too large")]
    Integer,
    /// Index 0, or beyond a table that is wholly known (§2.3.3).
    #[error("index {0} is not in the table")]
    Index(u32),
    /// A Huffman string with EOS in it, or padding that is not the beginning of EOS (§5.2).
    #[error("a Huffman string does not decode")]
    Huffman,
}

/// The octets that RFC 7541 §4.1 adds to every entry's size.
const OVERHEAD: usize = 32;
/// The size that a dynamic table has before anybody says otherwise (RFC 9113 §6.5.2).
pub(super) const DEFAULT_LIMIT: usize = 4096;
/// What is kept where the true limit was not seen: peers may have agreed on more than the default before we listened.
const ASSUMED_LIMIT: usize = 16 << 10;
/// The most that is ever kept of one table, whatever the peers agreed on. What falls out is unknown when referred to.
const KEEP_LIMIT: usize = 64 << 10;
/// A larger buffer for strings is not kept between blocks.
const SCRATCH: usize = 1024;

/// One direction's decoder.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first, as they are indexed (§2.3.2).
    entries: VecDeque<Entry>,
    /// The entries' sizes (§4.1); for entries with unknown parts a lower bound.
    size: usize,
    /// The table's size as the sender last set it; an assumption unless `limit_seen`.
    limit: usize,
    /// False after a loss until the sender says the size.
    limit_seen: bool,
    /// True when the sender's table may hold more, older entries than `entries`.
    older_unknown: bool,
    /// For Huffman-decoded strings; empty between blocks but for their memory, which is at most [`SCRATCH`].
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// Name, then value.
    text: Box<[u8]>,
    /// Where the value begins; `None` where the name is unknown.
    name: Option<u32>,
    /// False where the value is unknown: an entry too large to keep.
    value_known: bool,
}

impl Entry {
    fn new((name, value): Field<'_>) -> Self {
        let text = [name.unwrap_or_default(), value.unwrap_or_default()].concat().into_boxed_slice();
        Self { text, name: name.and_then(|n| u32::try_from(n.len()).ok()), value_known: value.is_some() }
    }

    fn field(&self) -> Field<'_> {
        let (name, value) = self.text.split_at_checked(self.name.unwrap_or(0) as usize).unwrap_or_default();
        (self.name.is_some().then_some(name), self.value_known.then_some(value))
    }

    fn size(&self) -> usize {
        self.text.len().saturating_add(OVERHEAD)
    }
}

/// A string of a literal: borrowed from the block, or from the buffer that it was decoded into.
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded,
}

impl Decoder {
    /// For a direction whose first byte was seen: the table is empty, and both sides know it.
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: DEFAULT_LIMIT,
            limit_seen: true,
            older_unknown: false,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// For a direction picked up mid-stream: the table holds what we never saw.
    pub(super) fn mid_stream() -> Self {
        let mut decoder = Self::new();
        decoder.lose();
        decoder
    }

    /// Header blocks may have been missed. Each may have inserted entries, which moves every index by an unknown
    /// amount: nothing that was known can be referred to any more.
    pub(super) fn lose(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.limit = self.limit.max(ASSUMED_LIMIT);
        self.limit_seen = false;
        self.older_unknown = true;
    }

    /// True when the table may hold entries that were never seen.
    pub(super) fn is_lost(&self) -> bool {
        self.older_unknown
    }

    /// Decodes a whole header block, giving its fields to `each` in order.
    ///
    /// The work is linear in the block's length; a field is at most as long as an entry of the table, so it is for
    /// `each` to bound what it keeps.
    ///
    /// # Errors
    /// See [`Error`]. The fields before were given; the table is lost.
    pub(super) fn decode(&mut self, block: &[u8], each: &mut dyn FnMut(Field<'_>)) -> Result<(), Error> {
        let mut rest = block;
        let mut done = Ok(());
        while let (Some(&first), Ok(())) = (rest.first(), done) {
            done = self.representation(first, &mut rest, each);
        }
        for buffer in [&mut self.name, &mut self.value] {
            if buffer.capacity() > SCRATCH {
                *buffer = Vec::new();
            }
        }
        if done.is_err() {
            self.lose();
        }
        done
    }

    /// One representation (§6). The first octet tells which, by its leading bits.
    fn representation(
        &mut self,
        first: u8,
        rest: &mut &[u8],
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Error> {
        if first & 0x80 != 0 {
            // §6.1: indexed field, 7 bits of index.
            let index = integer(rest, 7)?;
            each(self.lookup(index)?);
            return Ok(());
        }
        if first & 0xe0 == 0x20 {
            // §6.3: size update. A limit that the receiver never allowed is followed all the same: the sender's
            // table has that size.
            self.limit = integer(rest, 5)? as usize;
            self.limit_seen = true;
            self.evict(0);
            return Ok(());
        }
        // §6.2: literal, with a name from a table (or 0: spelt out); 01 is added to the table, 0000 and 0001 not.
        let insert = first & 0x40 != 0;
        let index = integer(rest, if insert { 6 } else { 4 })?;
        let mut name = std::mem::take(&mut self.name);
        let mut value = std::mem::take(&mut self.value);
        let done = self.literal(index, insert, rest, (&mut name, &mut value), each);
        self.name = name;
        self.value = value;
        done
    }

    fn literal(
        &mut self,
        index: u32,
        insert: bool,
        rest: &mut &[u8],
        (name_buffer, value_buffer): (&mut Vec<u8>, &mut Vec<u8>),
        each: &mut dyn FnMut(Field<'_>),
    ) -> Result<(), Error> {
        let name = if index == 0 {
            Some(match string(rest, name_buffer)? {
                Text::Plain(text) => text,
                Text::Decoded => name_buffer,
            })
        } else {
            self.lookup(index)?.0
        };
        let value = match string(rest, value_buffer)? {
            Text::Plain(text) => text,
            Text::Decoded => value_buffer,
        };
        let field = (name, Some(value));
        each(field);
        if insert {
            let octets = name.map_or(0, <[u8]>::len).saturating_add(value.len()).saturating_add(OVERHEAD);
            // §4.4: an entry larger than the table empties it. Where the limit is only assumed the entry may well
            // have its place, and so it has here, without its text.
            let entry = if octets <= self.limit.min(KEEP_LIMIT) {
                Some(Entry::new(field))
            } else {
                (octets <= self.limit || !self.limit_seen).then(|| Entry::new((None, None)))
            };
            self.evict(octets);
            if let Some(entry) = entry {
                self.size = self.size.saturating_add(entry.size());
                self.entries.push_front(entry);
            }
        }
        Ok(())
    }

    /// The field at an index of the two tables joined (§2.3.3).
    fn lookup(&self, index: u32) -> Result<Field<'_>, Error> {
        let place = (index as usize).checked_sub(1).ok_or(Error::Index(index))?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok((Some(name.as_bytes()), Some(value.as_bytes())));
        }
        match self.entries.get(place.saturating_sub(STATIC.len())) {
            Some(entry) => Ok(entry.field()),
            None if self.older_unknown => Ok((None, None)),
            None => Err(Error::Index(index)),
        }
    }

    /// Drops the oldest entries until `octets` more fit (§4.3, §4.4).
    fn evict(&mut self, octets: usize) {
        let keep = self.limit.min(KEEP_LIMIT);
        let over = |size: usize, by: usize| size.saturating_add(octets) > by;
        while over(self.size, keep) {
            // What we drop and the sender need not have dropped is not gone, but unknown.
            self.older_unknown |= !over(self.size, self.limit) || !self.limit_seen;
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size = self.size.saturating_sub(oldest.size());
        }
        // Entries that we never saw are older than all that we know: when nothing fits beside those, they are gone.
        if self.limit_seen && over(self.size.saturating_add(OVERHEAD), self.limit) {
            self.older_unknown = false;
        }
    }
}

impl Decoder {
    /// Octets that the table holds, by the measure of §4.1, which is near to what it takes here.
    pub(super) fn held(&self) -> usize {
        self.size
    }
}

/// An integer with an `N`-bit prefix (§5.1), taken off the front of `rest`.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<u32, Error> {
    let (&first, mut after) = rest.split_first().ok_or(Error::Truncated)?;
    let mask = 0xff_u8.checked_shr(8_u32.saturating_sub(prefix)).unwrap_or(0);
    let mut value = u64::from(first & mask);
    if first & mask == mask {
        // Five octets of seven bits hold any 32-bit value; leading zeros beyond them are a waste of our time.
        let mut shift = 0_u32;
        loop {
            let (&next, further) = after.split_first().ok_or(Error::Truncated)?;
            after = further;
            if shift > 28 {
                return Err(Error::Integer);
            }
            value = value.saturating_add(u64::from(next & 0x7f).checked_shl(shift).unwrap_or(0));
            shift = shift.saturating_add(7);
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    u32::try_from(value).map_err(|_| Error::Integer)
}

/// A string literal (§5.2), taken off the front of `rest`.
fn string<'a>(rest: &mut &'a [u8], buffer: &mut Vec<u8>) -> Result<Text<'a>, Error> {
    let huffman = rest.first().ok_or(Error::Truncated)? & 0x80 != 0;
    let length = integer(rest, 7)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
    *rest = after;
    if !huffman {
        return Ok(Text::Plain(text));
    }
    buffer.clear();
    huffman_decode(text, buffer)?;
    Ok(Text::Decoded)
}

/// Decodes a Huffman string (§5.2) into `out`. Strict: EOS inside, more than 7 bits of padding, or padding that is not
/// all ones is an error, which the crates at hand let pass in part.
fn huffman_decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut octets = text.iter();
    // The bits not yet decoded, the next one on top; below `have` bits there are zeros.
    let mut bits: u64 = 0;
    let mut have: u32 = 0;
    loop {
        while have <= 56 {
            let Some(&octet) = octets.next() else { break };
            bits |= u64::from(octet).wrapping_shl(56_u32.wrapping_sub(have));
            have = have.wrapping_add(8);
        }
        let (symbol, length) = huffman_symbol((bits >> 32) as u32);
        if length > have {
            // Padding: the most significant bits of EOS, which are ones, and less than an octet of them.
            let ones = bits.leading_ones().min(have) == have;
            return if ones && have < 8 { Ok(()) } else { Err(Error::Huffman) };
        }
        out.push(u8::try_from(symbol).map_err(|_| Error::Huffman)?);
        bits = bits.wrapping_shl(length);
        have = have.wrapping_sub(length);
    }
}

/// The symbol that `window` begins with, and the length of its code; 256 is EOS.
fn huffman_symbol(window: u32) -> (u16, u32) {
    // Codes of the same length are consecutive, and shorter codes are smaller when aligned to the left: the first
    // length whose end lies above the window is the right one.
    for group in &HUFFMAN.groups {
        if u64::from(window) < group.end {
            let code = window.checked_shr(32_u32.wrapping_sub(group.length)).unwrap_or(0);
            let place = code.wrapping_sub(group.first).wrapping_add(group.place);
            return (HUFFMAN.symbols.get(place as usize).copied().unwrap_or(EOS), group.length);
        }
    }
    (EOS, 30)
}

const EOS: u16 = 256;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    length: u32,
    /// The first code.
    first: u32,
    /// The place of its symbol in [`Huffman::symbols`].
    place: u32,
    /// One above the last code, aligned to the left of 32 bits.
    end: u64,
}

struct Huffman {
    groups: [Group; GROUPS],
    /// The symbols in the order of their codes.
    symbols: [u16; 257],
}

/// How many different lengths there are.
const GROUPS: usize = 21;
static HUFFMAN: Huffman = huffman();

/// The code of RFC 7541 appendix B from its lengths alone: it is canonical (codes of one length are consecutive in the
/// order of symbols, and follow those of the length before).
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs in the compiler")]
const fn huffman() -> Huffman {
    let mut groups = [Group { length: 0, first: 0, place: 0, end: 0 }; GROUPS];
    let mut symbols = [0; 257];
    let (mut group, mut place, mut code, mut length) = (0, 0, 0_u64, 1);
    while length <= 30 {
        code <<= 1;
        let (first, at) = (code, place);
        let mut symbol = 0;
        while symbol < 257 {
            if HUFFMAN_LENGTHS[symbol] as u32 == length {
                symbols[place] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        if place > at {
            groups[group] =
                Group { length, first: first as u32, place: at as u32, end: code << (32 - length) };
            group += 1;
        }
        length += 1;
    }
    assert!(group == GROUPS && place == 257);
    Huffman { groups, symbols }
}

/// How many bits each symbol's code has (RFC 7541 appendix B); the last is EOS.
#[rustfmt::skip]
const HUFFMAN_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The static table (RFC 7541 appendix A); index 1 is the first.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
pub(super) mod tests;
