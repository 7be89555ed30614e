//! The frame: what a capture point saw, once, with its time. Everything pure begins here; nothing here decodes.

use std::fmt;

/// Nanoseconds since 1970-01-01T00:00:00Z, as the capture point's clock said. The only clock of the pure modules.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// From whole microseconds since the epoch; saturates at the end of time (year 2554).
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// This time plus `nanos`, saturating.
    #[must_use]
    pub fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this; 0 when `earlier` is later (clocks of several interfaces disagree).
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Microseconds from `earlier` to this; 0 when `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.nanos_since(earlier) / 1_000
    }
}

/// RFC 3339 in UTC with nine digits of fraction: `2026-11-23T07:27:01.123456789Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A u64 of nanoseconds ends in year 2554, well inside jiff's range; the fallback cannot be reached.
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

/// The same form, with any number of digits and any offset.
impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let nanos = text.parse::<jiff::Timestamp>()?.as_nanosecond();
        Ok(Self(u64::try_from(nanos).unwrap_or(if nanos < 0 { 0 } else { u64::MAX })))
    }
}

/// Times in JSON, as RFC 3339 has them: `#[serde(with = "rfc3339")]`.
pub mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Timestamp;

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }

    /// The same of a time that may be `null`.
    pub mod option {
        use serde::{Deserialize as _, Deserializer, Serializer};

        use super::Timestamp;

        /// Writes it.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => to.collect_str(time),
                None => to.serialize_none(),
            }
        }

        /// Reads it.
        ///
        /// # Errors
        /// When it is no time.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
            let text = <Option<std::borrow::Cow<'_, str>>>::deserialize(from)?;
            text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
        }
    }
}

/// What the first byte of a frame is: the link layer, by the numbers of the pcap and pcapng registries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LinkType {
    /// LINKTYPE_NULL (0): 4-byte address family in the writer's byte order.
    Null,
    /// LINKTYPE_ETHERNET (1).
    Ethernet,
    /// LINKTYPE_RAW (101; also 12 and 14 as DLT_RAW on some systems): IPv4 or IPv6, told by the version nibble.
    Raw,
    /// LINKTYPE_LOOP (108): 4-byte address family in network byte order.
    Loop,
    /// LINKTYPE_LINUX_SLL (113): Linux cooked, version 1.
    LinuxSll,
    /// LINKTYPE_IPV4 (228).
    Ipv4,
    /// LINKTYPE_IPV6 (229).
    Ipv6,
    /// LINKTYPE_NFLOG (239): TLVs of the kernel's nfnetlink_log around an IP packet.
    Nflog,
    /// LINKTYPE_LINUX_SLL2 (276): Linux cooked, version 2, with the interface's index.
    LinuxSll2,
    /// A link type that we do not decode; its frames are counted, not guessed at.
    Other(u32),
}

impl LinkType {
    /// From the number in a capture file.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 => Self::Raw,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            239 => Self::Nflog,
            276 => Self::LinuxSll2,
            other => Self::Other(other),
        }
    }
}

/// Where a frame was seen, as far as its source can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Interface {
    /// The source does not say (classic pcap without cooked headers).
    #[default]
    Unknown,
    /// The n-th interface that the source declared (pcapng interface description block, or an attached veth).
    Declared(u32),
    /// The kernel's interface index (Linux cooked v2); its name is not in the capture.
    Index(u32),
}

/// Which hook of the interface copied the frame, seen from the node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hook {
    /// Came in on the interface: sent by the pod behind a host-side veth.
    Ingress,
    /// Went out on the interface: to the pod.
    Egress,
}

/// One captured frame, borrowed from the reader's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// Where.
    pub interface: Interface,
    /// Which hook, where the source knows.
    pub hook: Option<Hook>,
    /// What the first byte of `bytes` is.
    pub link: LinkType,
    /// The bytes that were kept.
    pub bytes: &'a [u8],
    /// How long the frame was on the wire; never less than `bytes.len()` (readers clamp it).
    pub wire_length: u32,
}

/// What a capture source is or was losing, told in order with the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// When the source noticed.
    pub time: Timestamp,
    /// Where, if it knows.
    pub interface: Interface,
    /// How many frames were lost.
    pub frames: u64,
}
