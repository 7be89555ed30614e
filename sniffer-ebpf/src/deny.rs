//! What both sides know of denial: the maps of the second object (`fedisniff-deny`), their keys and values, and the
//! events that it tells. Addresses are IPv6, IPv4 as `::ffff:a.b.c.d`. No value has padding: sizes are asserted.
//!
//! Everything that a policy says is kept twice, in two slots. The lowest bit of the one word of [`MAP_ACTIVE`], which
//! counts generations, says which slot counts: so all of an update is seen at once, by each packet whole or not at all.

use crate::Tuple;

/// The program for what comes in on a pod's host-side veth: what the pod sends.
pub const PROGRAM_FROM_POD: &str = "fd_from_pod";
/// The program for what comes up from a bridge whose ports are pods, after translation of Services.
pub const PROGRAM_BRIDGE: &str = "fd_bridge";
/// The program for what goes out on a pod's host-side veth: to the pod.
pub const PROGRAM_TO_POD: &str = "fd_to_pod";

/// One word: the generation that counts. Its lowest bit is the slot.
pub const MAP_ACTIVE: &str = "FD_ACTIVE";
/// A [`Config`] for each slot.
pub const MAP_CONFIG: &str = "FD_CONFIG";
/// [`Endpoint`] by [`EndpointKey`].
pub const MAP_ENDPOINTS: &str = "FD_ENDPOINTS";
/// Longest-prefix trie of allowed peers: the number of a port list, by [`set_key`].
pub const MAP_SETS: &str = "FD_SETS";
/// [`Chunk`]s of port lists by [`ChunkKey`].
pub const MAP_PORTS: &str = "FD_PORTS";
/// [`Veth`] by interface index.
pub const MAP_VETHS: &str = "FD_VETHS";
/// [`Flow`] by [`FlowKey`], least recently used ones forgotten.
pub const MAP_FLOWS: &str = "FD_FLOWS";
/// The ring buffer of [`Event`]s.
pub const MAP_EVENTS: &str = "FD_EVENTS";
/// When an event of a kind was told last ([`Told`] by [`ToldKey`]).
pub const MAP_TOLD: &str = "FD_TOLD";
/// Per-CPU [`Counts`] by interface index.
pub const MAP_COUNTS: &str = "FD_COUNTS";

/// All maps, in the order above.
pub const MAPS: [&str; 10] = [
    MAP_ACTIVE,
    MAP_CONFIG,
    MAP_ENDPOINTS,
    MAP_SETS,
    MAP_PORTS,
    MAP_VETHS,
    MAP_FLOWS,
    MAP_EVENTS,
    MAP_TOLD,
    MAP_COUNTS,
];

/// The layout of everything here. Pins of another layout are not adopted.
pub const LAYOUT: u32 = 1;

/// The most addresses of pods and nodes, in both slots together.
pub const ENDPOINTS_MAX: u32 = 262_144;
/// The most prefixes of all sets.
pub const PREFIXES_MAX: u32 = 1_048_576;
/// The most chunks of all port lists.
pub const CHUNKS_TOTAL: u32 = 65_536;
/// The most veths.
pub const VETHS_MAX: u32 = 8_192;
/// Flows that are remembered.
pub const FLOWS_MAX: u32 = 65_536;
/// Octets of the ring buffer of events.
pub const EVENTS_OCTETS: u32 = 1 << 20;

/// What is done with a packet that is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mode {
    /// Nothing is decided.
    Off = 0,
    /// It passes, and is told as one that would be denied.
    Audit = 1,
    /// It is dropped, and told.
    Deny = 2,
}

/// How one slot decides.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Config {
    /// [`Mode`] as a number.
    pub mode: u32,
    /// [`config_flag`]s.
    pub flags: u32,
    /// What passes although the policies do not allow it and the specification leaves it open: bits of
    /// [`Reason::option`].
    pub allow: u32,
}

/// Words of [`Config`].
pub const CONFIG_WORDS: usize = 3;
const _: () = assert!(size_of::<Config>() == CONFIG_WORDS * 4);

impl Config {
    /// The map's words.
    pub fn to_words(self) -> [u32; CONFIG_WORDS] {
        [self.mode, self.flags, self.allow]
    }
}

/// What [`Config::flags`] can hold.
pub mod config_flag {
    /// Nothing but known pods may use the bridge: who is not known is denied.
    pub const ISOLATED: u32 = 1;
}

/// The key of [`MAP_ENDPOINTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct EndpointKey {
    /// The slot, 0 or 1.
    pub slot: u32,
    /// The address.
    pub address: [u8; 16],
}

/// Octets of [`EndpointKey`].
pub const ENDPOINT_KEY: usize = 20;
const _: () = assert!(size_of::<EndpointKey>() == ENDPOINT_KEY);

impl EndpointKey {
    /// The map's octets.
    pub fn to_octets(self) -> [u8; ENDPOINT_KEY] {
        let mut octets = [0; ENDPOINT_KEY];
        let (slot, address) = octets.split_at_mut(4);
        slot.copy_from_slice(&self.slot.to_ne_bytes());
        address.copy_from_slice(&self.address);
        octets
    }

    /// From the map's octets.
    pub fn from_octets(octets: [u8; ENDPOINT_KEY]) -> Self {
        let mut rest = octets.as_slice();
        let slot = u32::from_ne_bytes(take(&mut rest).unwrap_or_default());
        Self { slot, address: take(&mut rest).unwrap_or_default() }
    }
}

/// What an address is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Endpoint {
    /// A number that stands for the pod's namespace and name; 0 for a node's.
    pub pod: u64,
    /// The set of peers that it may connect to, where [`endpoint_flag::EGRESS`] is set.
    pub egress: u32,
    /// The set of peers that may connect to it, where [`endpoint_flag::INGRESS`] is set.
    pub ingress: u32,
    /// [`endpoint_flag`]s.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// Octets of [`Endpoint`].
pub const ENDPOINT: usize = 24;
const _: () = assert!(size_of::<Endpoint>() == ENDPOINT);

impl Endpoint {
    /// The map's octets.
    pub fn to_octets(self) -> [u8; ENDPOINT] {
        let mut octets = [0; ENDPOINT];
        let (pod, rest) = octets.split_at_mut(8);
        pod.copy_from_slice(&self.pod.to_ne_bytes());
        let words = [self.egress, self.ingress, self.flags, 0];
        for (word, value) in rest.chunks_exact_mut(4).zip(words) {
            word.copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }

    /// From the map's octets.
    pub fn from_octets(octets: [u8; ENDPOINT]) -> Self {
        let mut rest = octets.as_slice();
        let pod = u64::from_ne_bytes(take(&mut rest).unwrap_or_default());
        let mut word = || u32::from_ne_bytes(take(&mut rest).unwrap_or_default());
        Self { pod, egress: word(), ingress: word(), flags: word(), reserved: 0 }
    }

    /// Nothing is said of the address.
    pub const NONE: Self = Self { pod: 0, egress: 0, ingress: 0, flags: 0, reserved: 0 };

    /// Whether nothing is said of it.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.pod == 0 && self.flags == 0
    }
}

/// What [`Endpoint::flags`] can hold.
pub mod endpoint_flag {
    /// Policies isolate the pod for egress.
    pub const EGRESS: u32 = 1;
    /// Policies isolate the pod for ingress.
    pub const INGRESS: u32 = 2;
    /// An address of this node.
    pub const OWN_NODE: u32 = 4;
}

/// The number of the port list that allows everything; it has no chunks.
pub const ALL_PORTS: u32 = 1;

/// Octets of a key of [`MAP_SETS`] after the prefix length: the set's number in network order, then the address.
pub const SET_KEY: usize = 20;

/// The key of [`MAP_SETS`] without the prefix length, which counts the 32 bits of the number too.
#[inline(always)]
pub fn set_key(set: u32, address: &[u8; 16]) -> [u8; SET_KEY] {
    let mut key = [0; SET_KEY];
    key[..4].copy_from_slice(&set.to_be_bytes());
    key[4..].copy_from_slice(address);
    key
}

/// The key of [`MAP_PORTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ChunkKey {
    /// The list's number.
    pub list: u32,
    /// Which of its chunks, from 0.
    pub number: u32,
}

/// Ports of one protocol.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// The IP protocol's number; 0 is every protocol.
    pub protocol: u16,
}

impl PortRange {
    /// Matches nothing.
    pub const NOTHING: Self = Self { first: 1, last: 0, protocol: u16::MAX };
}

/// Ranges in a chunk.
pub const RANGES: usize = 10;
/// Chunks of a list.
pub const CHUNKS: u32 = 16;

/// A part of a port list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Chunk {
    /// 1 when another chunk follows.
    pub more: u32,
    /// The ranges; those that are not used are [`PortRange::NOTHING`].
    pub ranges: [PortRange; RANGES],
}

/// 16-bit words of [`Chunk`].
pub const CHUNK_WORDS: usize = 2 + 3 * RANGES;
const _: () = assert!(size_of::<Chunk>() == CHUNK_WORDS * 2);

impl Chunk {
    /// The map's words, of at most [`RANGES`] ranges.
    pub fn to_words(ranges: &[PortRange], more: bool) -> [u16; CHUNK_WORDS] {
        let mut words = [0; CHUNK_WORDS];
        let (head, rest) = words.split_at_mut(2);
        let [a, b, c, d] = u32::from(more).to_ne_bytes();
        head.copy_from_slice(&[u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]);
        let ranges = ranges.iter().chain(core::iter::repeat(&PortRange::NOTHING));
        for (word, range) in rest.chunks_exact_mut(3).zip(ranges) {
            word.copy_from_slice(&[range.first, range.last, range.protocol]);
        }
        words
    }

    /// The ranges in the map's words, and whether another chunk follows.
    pub fn from_words(words: &[u16; CHUNK_WORDS]) -> ([PortRange; RANGES], bool) {
        let mut ranges = [PortRange::NOTHING; RANGES];
        let (head, rest) = words.split_at(2);
        for (range, word) in ranges.iter_mut().zip(rest.chunks_exact(3)) {
            if let [first, last, protocol] = *word {
                *range = PortRange { first, last, protocol };
            }
        }
        (ranges, head.iter().any(|word| *word != 0))
    }
}

/// A pod's host-side veth, or another interface that frames may come from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Veth {
    /// The pod's number, as in [`Endpoint::pod`]; 0 as long as it is not known.
    pub pod: u64,
    /// An address of the pod, by which its policies are found for frames that have none.
    pub address: [u8; 16],
    /// The MAC address of the pod's end; zeros where it is not known, and then it is not checked.
    pub mac: [u8; 6],
    /// [`veth_flag`]s.
    pub flags: u16,
}

impl Veth {
    /// The map's octets.
    pub fn to_octets(self) -> [u8; VETH] {
        let mut octets = [0; VETH];
        let (pod, rest) = octets.split_at_mut(8);
        pod.copy_from_slice(&self.pod.to_ne_bytes());
        let (address, rest) = rest.split_at_mut(16);
        address.copy_from_slice(&self.address);
        let (mac, flags) = rest.split_at_mut(6);
        mac.copy_from_slice(&self.mac);
        flags.copy_from_slice(&self.flags.to_ne_bytes());
        octets
    }

    /// From the map's octets.
    pub fn from_octets(octets: [u8; VETH]) -> Self {
        let mut rest = octets.as_slice();
        Self {
            pod: u64::from_ne_bytes(take(&mut rest).unwrap_or_default()),
            address: take(&mut rest).unwrap_or_default(),
            mac: take(&mut rest).unwrap_or_default(),
            flags: u16::from_ne_bytes(take(&mut rest).unwrap_or_default()),
        }
    }

    /// Nothing is known of the interface.
    pub const NONE: Self = Self { pod: 0, address: [0; 16], mac: [0; 6], flags: 0 };
}

/// Octets of [`Veth`].
pub const VETH: usize = 32;
const _: () = assert!(size_of::<Veth>() == VETH);

/// What [`Veth::flags`] can hold.
pub mod veth_flag {
    /// A port of a bridge that has [`super::PROGRAM_BRIDGE`]: what is not for another pod is decided there.
    pub const BRIDGED: u16 = 1;
    /// No pod's: an interface that the node itself receives and forwards from.
    pub const ROUTED: u16 = 2;
}

/// Which packet of a connection a flow was begun by, as seen from the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Hook {
    /// [`PROGRAM_FROM_POD`].
    FromPod = 0,
    /// [`PROGRAM_BRIDGE`].
    Bridge = 1,
    /// [`PROGRAM_TO_POD`].
    ToPod = 2,
}

/// Beside the hook's number in [`FlowKey::role`]: not a flow but a datagram in fragments, whose number stands in the
/// place of ports.
pub const ROLE_FRAGMENTS: u8 = 16;

/// The key of [`MAP_FLOWS`]: the direction in which the flow was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FlowKey {
    /// From its client to its server. The identifier of an ICMP echo is the client's port.
    pub tuple: Tuple,
    /// The interface.
    pub interface: u32,
    /// The IP protocol.
    pub protocol: u8,
    /// [`Hook`] as a number.
    pub role: u8,
    /// 0.
    pub reserved: u16,
}

/// Octets of [`FlowKey`].
pub const FLOW_KEY: usize = 44;
const _: () = assert!(size_of::<FlowKey>() == FLOW_KEY);

/// What was decided of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Flow {
    /// Until when (nanoseconds since boot) answers to it are answers.
    pub until: u64,
    /// The generation that decided; another one decides again.
    pub generation: u32,
    /// [`Reason`] as a number; one that denies is only kept in [`Mode::Audit`].
    pub reason: u8,
    /// 1 once an end has closed it.
    pub closing: u8,
    /// 0.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Flow>() == 16);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// Why a packet passes or does not. Those from [`DENIALS`] on deny.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// From its number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// A stable word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

/// The first number of a [`Reason`] that denies.
pub const DENIALS: u8 = 16;
/// Numbers of [`Reason`] are below.
pub const REASONS: usize = 32;

reasons! {
    /// No policy isolates either end.
    NotIsolated = 0, "not-isolated";
    /// The policies allow it.
    Policy = 1, "policy";
    /// It belongs to a connection that is allowed: an answer, or an ICMP error about it.
    Reply = 2, "reply";
    /// What a network needs to work at all: ARP, neighbour and router discovery, multicast listeners, DHCP.
    Control = 3, "control";
    /// From the pod's own node, which is always allowed.
    FromOwnNode = 4, "from-own-node";
    /// The specification leaves it open, and the configuration lets it pass.
    Option = 5, "option";
    /// Decided at the bridge, where Services have been translated.
    LeftToBridge = 6, "left-to-bridge";
    /// Denial is off.
    Off = 7, "off";
    /// A later fragment of a datagram whose first one passed.
    Fragments = 8, "fragments";
    /// The sender's policies do not allow it.
    Egress = 16, "egress";
    /// The receiver's policies do not allow it.
    Ingress = 17, "ingress";
    /// The source address or MAC address is not the pod's.
    Spoofed = 18, "spoofed-source";
    /// Whose the frame is, or whom it would reach, is not known.
    Unknown = 19, "unknown-pod";
    /// A frame that is neither IP nor ARP as netfilter reads them: tagged, PPPoE, another type, damaged.
    Unparsed = 20, "unparsed-frame";
    /// A later fragment of a datagram whose first one was not seen to pass.
    Fragment = 21, "fragment";
    /// ICMP that belongs to no connection: echo above all.
    Icmp = 22, "icmp";
    /// An IP protocol that policies have no word for.
    OtherProtocol = 23, "other-protocol";
    /// To the pod's own node: the bridge's address, node ports, the node's services.
    OwnNode = 24, "own-node";
    /// Back to the pod itself, through a Service.
    Hairpin = 25, "hairpin";
    /// Multicast or broadcast.
    Multicast = 26, "multicast";
    /// Link-local IPv6, but for neighbour discovery.
    LinkLocal = 27, "link-local";
    /// A frame that reaches a pod's veth and is for another address.
    NotAddressed = 28, "not-addressed";
}

impl Reason {
    /// Whether it denies.
    #[inline(always)]
    pub const fn denies(self) -> bool {
        self as u8 >= DENIALS
    }

    /// Its bit in [`Config::allow`].
    #[inline(always)]
    pub const fn option(self) -> u32 {
        1 << (self as u8 % 32)
    }
}

/// The layout of [`Event`].
pub const EVENT_VERSION: u8 = 1;

/// A packet that was denied, or the first of a flow of an isolated pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_nanos: u64,
    /// The pod at whose veth it was seen, as in [`Endpoint::pod`]; at the bridge the sender. 0 when it is not known.
    pub pod: u64,
    /// Source, destination and ports as the hook saw them; zeros where the frame has none.
    pub tuple: Tuple,
    /// The interface.
    pub interface: u32,
    /// The generation that decided.
    pub generation: u32,
    /// Octets of the packet.
    pub length: u32,
    /// Like ones that were not told since the last one of the kind.
    pub untold: u32,
    /// The frame's type, as in Ethernet's header.
    pub ether_type: u16,
    /// The IP protocol.
    pub protocol: u8,
    /// [`Hook`] as a number.
    pub hook: u8,
    /// [`Reason`] as a number.
    pub reason: u8,
    /// 1 when it was dropped.
    pub dropped: u8,
    /// [`EVENT_VERSION`].
    pub version: u8,
    /// 0.
    pub reserved: [u8; 5],
}

/// Octets of [`Event`].
pub const EVENT: usize = 80;
const _: () = assert!(size_of::<Event>() == EVENT);

/// The key of [`MAP_TOLD`]: events of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ToldKey {
    /// The other end.
    pub peer: [u8; 16],
    /// The interface.
    pub interface: u32,
    /// The destination port.
    pub port: [u8; 2],
    /// The IP protocol.
    pub protocol: u8,
    /// [`Reason`] as a number.
    pub reason: u8,
}

const _: () = assert!(size_of::<ToldKey>() == 24);

/// When it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Told {
    /// Nanoseconds since boot.
    pub at: u64,
    /// Not told since.
    pub untold: u64,
}

/// One event of a kind in this time.
pub const TOLD_EVERY: u64 = 1_000_000_000;
/// Events in the same time of one interface on one CPU, of whatever kinds: a flood to ever new addresses shall not fill
/// the ring buffer.
pub const TOLD_MOST: u32 = 256;

/// What one CPU counted on one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Counts {
    /// Packets that reached a hook.
    pub seen: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Events that were held back because the interface had told enough.
    pub untold: u64,
    /// Events for which the ring buffer had no room.
    pub lost: u64,
    /// When the current second of telling began, in nanoseconds since boot.
    pub second: u64,
    /// Events told since.
    pub told: u64,
    /// Packets by [`Reason`].
    pub reasons: [u64; REASONS],
}

/// Words of [`Counts`].
pub const COUNTS: usize = 6 + REASONS;
const _: () = assert!(size_of::<Counts>() == COUNTS * 8);

/// Why octets are not an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventError {
    /// Not as long as one.
    Length(usize),
    /// Another layout.
    Version(u8),
    /// A hook that does not exist.
    Hook(u8),
    /// A reason that does not exist.
    Reason(u8),
}

impl core::fmt::Display for EventError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length(length) => write!(f, "an event has {EVENT} octets, not {length}"),
            Self::Version(version) => write!(f, "event layout {version}, expected {EVENT_VERSION}"),
            Self::Hook(hook) => write!(f, "no hook has the number {hook}"),
            Self::Reason(reason) => write!(f, "no reason has the number {reason}"),
        }
    }
}

impl core::error::Error for EventError {}

/// Reads an event, trusting nothing: an older program may still fill the ring buffer.
///
/// # Errors
/// See [`EventError`].
pub fn decode(bytes: &[u8]) -> Result<(Event, Hook, Reason), EventError> {
    let wrong = EventError::Length(bytes.len());
    let bytes: &[u8; EVENT] = bytes.try_into().map_err(|_| wrong)?;
    let mut rest = bytes.as_slice();
    let event = Event {
        boot_nanos: u64::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        pod: u64::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        tuple: Tuple {
            source: take(&mut rest).ok_or(wrong)?,
            destination: take(&mut rest).ok_or(wrong)?,
            source_port: take(&mut rest).ok_or(wrong)?,
            destination_port: take(&mut rest).ok_or(wrong)?,
        },
        interface: u32::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        generation: u32::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        length: u32::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        untold: u32::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        ether_type: u16::from_ne_bytes(take(&mut rest).ok_or(wrong)?),
        protocol: take::<1>(&mut rest).ok_or(wrong)?[0],
        hook: take::<1>(&mut rest).ok_or(wrong)?[0],
        reason: take::<1>(&mut rest).ok_or(wrong)?[0],
        dropped: take::<1>(&mut rest).ok_or(wrong)?[0],
        version: take::<1>(&mut rest).ok_or(wrong)?[0],
        reserved: [0; 5],
    };
    if event.version != EVENT_VERSION {
        return Err(EventError::Version(event.version));
    }
    let hook = match event.hook {
        0 => Hook::FromPod,
        1 => Hook::Bridge,
        2 => Hook::ToPod,
        hook => return Err(EventError::Hook(hook)),
    };
    let reason = Reason::from_number(event.reason).ok_or(EventError::Reason(event.reason))?;
    Ok((event, hook, reason))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
