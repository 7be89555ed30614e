//! What is to be done with a frame: one pure function for the three hooks, over whatever holds the policies. In the
//! kernel those are maps, in tests ordinary collections; the decision is the same code.
//!
//! A connection is decided by its first packet, from both ends: the sender's egress and the receiver's ingress. What is
//! decided is remembered as a flow, in the direction in which it was begun, together with the generation of the policies
//! that decided. A packet that fits a flow of the current generation passes by that; of an older one, the flow is decided
//! again, so that a new policy cuts what it forbids. An answer is a packet that fits a flow turned round. A flow is kept
//! alive only by packets of its own direction, so nobody is answered for ever who has asked once.
//!
//! At the veth a pod's destination may still be a Service's address. So there only what is for another pod (it may be
//! bridged, and then reaches no other hook), for a group or for the link is decided; the rest at the bridge.
//!
//! All that is worked on lies in [`Work`], and each step is a function that is not inlined: the kernel's stack is small,
//! and its verifier follows every path, unless paths meet in the same state. It forgets what was written to a map.

use crate::Tuple;
use crate::deny::{
    ALL_PORTS, CHUNKS, Chunk, ChunkKey, Config, Endpoint, Flow, FlowKey, Hook, Mode, ROLE_FRAGMENTS, Reason,
    Veth, config_flag, endpoint_flag, veth_flag,
};
use crate::wire::{
    ACK, FIN, Frame, ICMP, ICMPV6, Kind, RST, SCTP, SYN, TCP, UDP, link_local, link_scope, multicast,
    unspecified,
};

/// What is known: policies, flows, time.
pub trait World {
    /// What an address is held to, in the slot that counts; [`Endpoint::NONE`] when nothing is said of it.
    fn endpoint(&self, address: &[u8; 16], into: &mut Endpoint);
    /// The port list of the longest prefix of a set that covers an address.
    fn ports(&self, set: u32, address: &[u8; 16]) -> Option<u32>;
    /// A part of a port list.
    fn chunk(&self, key: &ChunkKey) -> Option<&Chunk>;
    /// An interface; [`Veth::NONE`] when it is not known.
    fn veth(&self, interface: u32, into: &mut Veth);
    /// A remembered flow: whether there is one.
    fn flow(&self, key: &FlowKey, into: &mut Flow) -> bool;
    /// Remembers a flow.
    fn remember(&self, key: &FlowKey, flow: &Flow);
    /// Nanoseconds since boot.
    fn now(&self) -> u64;
}

/// Where and how a frame was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Here {
    /// The hook.
    pub hook: Hook,
    /// The interface.
    pub interface: u32,
    /// The interface where it came in; 0 when the node itself made it.
    pub came_from: u32,
    /// What a program before this one said of it: [`TOKEN_FORWARD`], [`TOKEN_DONE`], or something else.
    pub token: u32,
    /// The generation that counts.
    pub generation: u32,
}

/// The frame's source has been checked at its veth; where it may go is decided at the bridge. It travels in the packet's
/// priority, which a pod cannot set for the node: the kernel clears it when a packet changes namespaces
/// (`____dev_forward_skb`).
pub const TOKEN_FORWARD: u32 = 0xfed5_0001;
/// The same, and nothing is left to decide.
pub const TOKEN_DONE: u32 = 0xfed5_0002;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Outcome {
    /// The pod that this is about; 0 when it is not known.
    pub pod: u64,
    /// Why it passes or not.
    pub reason: Reason,
    /// The first packet of a flow, of which a policy or an option says something.
    pub first: bool,
}

/// A frame on its way to a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Work {
    /// Its headers.
    pub frame: Frame,
    /// Where it is.
    pub here: Here,
    /// How the slot decides.
    pub config: Config,
    /// The verdict.
    pub outcome: Outcome,
    veth: Veth,
    key: FlowKey,
    flow: Flow,
    /// The endpoints of the flow, and of the pod at whose veth this is.
    source: Endpoint,
    destination: Endpoint,
    own: Endpoint,
    now: u64,
    /// A flow was found, …
    known: bool,
    /// … and the frame goes against its direction.
    answers: bool,
}

impl Work {
    /// Nothing is known yet.
    pub const NONE: Self = Self {
        frame: Frame::NONE,
        here: Here { hook: Hook::FromPod, interface: 0, came_from: 0, token: 0, generation: 0 },
        config: Config { mode: 0, flags: 0, allow: 0 },
        outcome: Outcome { pod: 0, reason: Reason::NotIsolated, first: false },
        veth: Veth::NONE,
        key: FlowKey { tuple: Frame::NONE.tuple, interface: 0, protocol: 0, role: 0, reserved: 0 },
        flow: Flow { until: 0, generation: 0, reason: 0, closing: 0, reserved: 0 },
        source: Endpoint::NONE,
        destination: Endpoint::NONE,
        own: Endpoint::NONE,
        now: 0,
        known: false,
        answers: false,
    };

    #[inline(always)]
    fn is(&self, hook: Hook) -> bool {
        self.here.hook as u8 == hook as u8
    }

    #[inline(always)]
    fn isolated(&self) -> bool {
        self.config.flags & config_flag::ISOLATED != 0
    }

    /// A program at the sender's veth has seen it.
    #[inline(always)]
    fn checked(&self) -> bool {
        self.here.token == TOKEN_FORWARD || self.here.token == TOKEN_DONE
    }

    /// Ends with this reason. One that denies is let pass where the configuration says so.
    #[inline(always)]
    fn end(&mut self, reason: Reason) {
        self.outcome.reason =
            if reason.denies() && self.config.allow & reason.option() != 0 { Reason::Option } else { reason };
    }

    /// TCP's first packet.
    #[inline(always)]
    fn opening(&self) -> bool {
        self.frame.protocol == TCP && self.frame.tcp_flags & (SYN | ACK) == SYN
    }

    /// TCP's last packets.
    #[inline(always)]
    fn ending(&self) -> bool {
        self.frame.protocol == TCP && self.frame.tcp_flags & (FIN | RST) != 0
    }
}

/// Flows end so long after the last packet of their direction: TCP is told, the others are not. The values are those of
/// Linux's own connection tracking, but for TCP, where it has five days (nf_conntrack-sysctl.rst).
const TCP_ALIVE: u64 = 86_400 * SECOND;
const CLOSING_ALIVE: u64 = 120 * SECOND;
const UDP_ALIVE: u64 = 180 * SECOND;
const OTHER_ALIVE: u64 = 30 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// A flow's end is moved when it moves by so much: not at every packet.
const STEP: u64 = SECOND;

const EGRESS: u32 = endpoint_flag::EGRESS;
const INGRESS: u32 = endpoint_flag::INGRESS;

/// Decides of `work.frame` at `work.here` by `work.config`, into `work.outcome`.
#[inline(always)]
pub fn decide<W: World>(world: &W, work: &mut Work) {
    if !met(world, work) && !remembered(world, work) {
        found_out(world, work);
        judged(world, work);
        kept(world, work);
    }
}

/// What is decided before anybody asks where it goes. True when that was all.
#[inline(never)]
fn met<W: World>(world: &W, work: &mut Work) -> bool {
    work.outcome = Outcome { pod: 0, reason: Reason::NotIsolated, first: false };
    if work.is(Hook::Bridge) {
        if work.here.token == TOKEN_DONE {
            work.end(Reason::Reply);
            return true;
        }
        work.veth = Veth::NONE;
    } else {
        world.veth(work.here.interface, &mut work.veth);
        work.outcome.pod = work.veth.pod;
    }
    if work.is(Hook::FromPod) && work.veth.pod != 0 {
        let foreign = work.veth.mac != [0; 6] && work.veth.mac != work.frame.mac;
        // An error is about the pod's own connection.
        let lies = work.frame.kind as u8 == Kind::Error as u8 && work.frame.tuple.source != work.frame.source;
        if foreign || lies {
            work.end(Reason::Spoofed);
            return true;
        }
    }
    if work.frame.kind as u8 == Kind::Unparsed as u8 {
        unparsed(world, work);
        return true;
    }
    if (work.frame.kind as u8 == Kind::Arp as u8 || work.frame.kind as u8 == Kind::Control as u8)
        && control(world, work)
    {
        return true;
    }
    if work.isolated() && nobodys(world, work) {
        work.end(Reason::Unknown);
        return true;
    }
    false
}

/// A frame without addresses: the veth says whose it is.
#[inline(always)]
fn unparsed<W: World>(world: &W, work: &mut Work) {
    if work.veth.pod != 0 {
        world.endpoint(&work.veth.address, &mut work.own);
    } else {
        work.own = Endpoint::NONE;
    }
    let closed = if work.own.is_none() {
        work.isolated() && !work.checked()
    } else {
        work.own.flags & if work.is(Hook::FromPod) { EGRESS } else { INGRESS } != 0
    };
    work.end(if closed { Reason::Unparsed } else { Reason::NotIsolated });
}

/// ARP, discovery and DHCP pass as long as they stay on the link, and say of the pod what is true. True when decided.
#[inline(always)]
fn control<W: World>(world: &W, work: &mut Work) -> bool {
    let arp = work.frame.kind as u8 == Kind::Arp as u8;
    let on_link = arp
        || work.frame.protocol == UDP
        || link_scope(&work.frame.destination)
        || link_local(&work.frame.destination);
    if !on_link {
        // A neighbour is asked by its own address whether it is still there; what is routed is not discovery.
        world.endpoint(&work.frame.destination, &mut work.own);
        if work.own.is_none() || work.is(Hook::Bridge) && work.own.flags & endpoint_flag::OWN_NODE == 0 {
            return false;
        }
    }
    if work.is(Hook::FromPod)
        && work.veth.pod != 0
        && !unspecified(&work.frame.source)
        && (arp || !link_local(&work.frame.source))
    {
        world.endpoint(&work.frame.source, &mut work.own);
        if work.own.pod != work.veth.pod {
            work.end(Reason::Spoofed);
            return true;
        }
    }
    work.end(Reason::Control);
    true
}

/// Whether, on an isolated bridge, it cannot be said who sends or who would receive.
#[inline(always)]
fn nobodys<W: World>(world: &W, work: &mut Work) -> bool {
    match work.here.hook {
        Hook::FromPod => work.veth.pod == 0,
        Hook::Bridge => !work.checked(),
        Hook::ToPod => {
            if work.here.came_from == 0 {
                return false;
            }
            if work.veth.pod == 0 {
                return true;
            }
            if work.checked() {
                return false;
            }
            // From a port of the bridge whose program is not there yet, or from beyond the node.
            let pod = work.veth;
            world.veth(work.here.came_from, &mut work.veth);
            let routed = work.veth.flags & veth_flag::ROUTED != 0;
            work.veth = pod;
            !routed
        }
    }
}

/// Whether it belongs to a flow that the current generation has decided. Leaves an older one in `work.flow`.
#[inline(never)]
fn remembered<W: World>(world: &W, work: &mut Work) -> bool {
    work.key.tuple = work.frame.tuple;
    work.key.interface = work.here.interface;
    work.key.protocol = work.frame.protocol;
    work.key.role = work.here.hook as u8;
    work.key.reserved = 0;
    work.now = world.now();
    work.answers = false;
    work.known = false;
    let kind = work.frame.kind as u8;
    let error = kind == Kind::Error as u8;
    if kind == Kind::LaterFragment as u8 {
        work.key.role |= ROLE_FRAGMENTS;
    }
    if kind != Kind::EchoReply as u8 {
        work.known = world.flow(&work.key, &mut work.flow);
        // For what does not begin a flow its end counts.
        if (error || kind == Kind::LaterFragment as u8) && work.flow.until <= work.now {
            work.known = false;
        }
    }
    let may_answer = kind == Kind::Ports as u8 || error || kind == Kind::EchoReply as u8;
    if !work.known && may_answer && !work.opening() && !work.is(Hook::Bridge) {
        turn(&mut work.key.tuple, &work.frame.tuple);
        work.key.role = if work.is(Hook::FromPod) { Hook::ToPod } else { Hook::FromPod } as u8;
        work.answers = world.flow(&work.key, &mut work.flow) && work.now < work.flow.until;
        work.known = work.answers;
        if !work.answers {
            work.key.tuple = work.frame.tuple;
            work.key.role = work.here.hook as u8;
        }
    }
    if !work.known || work.flow.generation != work.here.generation {
        return false;
    }
    if kind == Kind::Ports as u8 || kind == Kind::Echo as u8 {
        keep(world, work);
    }
    let reason = work.flow.reason;
    if work.frame.fragmented {
        remember_fragments(world, work, reason);
    }
    work.outcome.reason = match Reason::from_number(reason) {
        Some(reason) if reason.denies() => reason,
        Some(reason) if !work.answers && !error => reason,
        _ => Reason::Reply,
    };
    true
}

/// Moves a flow's end: on by packets of its own direction, near when an end closes it.
#[inline(always)]
fn keep<W: World>(world: &W, work: &mut Work) {
    let (opening, ending) = (work.opening(), work.ending());
    let closing = ending || work.flow.closing != 0 && !opening;
    let until = work.now + if closing { CLOSING_ALIVE } else { alive(work.frame.protocol) };
    let nearer = ending && work.flow.closing == 0;
    let later = !work.answers && until >= work.flow.until + STEP;
    if nearer || later {
        work.flow.closing = u8::from(closing);
        work.flow.until = until;
        world.remember(&work.key, &work.flow);
    }
}

/// Who is at the two ends, in the direction of the flow.
#[inline(never)]
fn found_out<W: World>(world: &W, work: &mut Work) {
    world.endpoint(&work.key.tuple.source, &mut work.source);
    world.endpoint(&work.key.tuple.destination, &mut work.destination);
    work.own = Endpoint::NONE;
    if work.veth.pod == 0 {
        if work.is(Hook::Bridge) {
            work.outcome.pod = work.source.pod;
        }
        return;
    }
    if work.is(Hook::FromPod) {
        // Each end of a link makes its link-local address itself; the veth says whose it is.
        let address = if link_local(&work.frame.source) { &work.veth.address } else { &work.frame.source };
        world.endpoint(address, &mut work.own);
    } else {
        world.endpoint(&work.veth.address, &mut work.own);
    }
    if work.own.pod == work.veth.pod {
        let sends = work.key.role & !ROLE_FRAGMENTS != Hook::ToPod as u8;
        *(if sends { &mut work.source } else { &mut work.destination }) = work.own;
    }
}

/// Decides now.
#[inline(never)]
fn judged<W: World>(world: &W, work: &mut Work) {
    let kind = work.frame.kind as u8;
    let (from_pod, to_pod) = (work.is(Hook::FromPod), work.is(Hook::ToPod));
    if from_pod && work.veth.pod != 0 && work.own.pod != work.veth.pod {
        work.end(Reason::Spoofed);
        return;
    }
    let held = work.source.flags & EGRESS != 0 || work.destination.flags & INGRESS != 0;
    let from_own_node =
        work.here.came_from == 0 || work.source.flags & endpoint_flag::OWN_NODE != 0 && !work.checked();
    if kind == Kind::LaterFragment as u8 {
        let passes = !held || to_pod && from_own_node;
        work.end(if passes { Reason::NotIsolated } else { Reason::Fragment });
        return;
    }
    // What belongs to nothing that is known is as any other ICMP, whatever it says it is about.
    let orphan = !work.known && (kind == Kind::Error as u8 || kind == Kind::EchoReply as u8);
    if to_pod && !work.answers {
        if from_own_node {
            work.end(Reason::FromOwnNode);
            return;
        }
        if work.own.flags & INGRESS != 0 && strays(world, work) {
            work.end(Reason::NotAddressed);
            return;
        }
    }
    if orphan {
        let held = match work.here.hook {
            Hook::FromPod => work.own.flags & EGRESS != 0,
            Hook::ToPod => work.own.flags & INGRESS != 0,
            Hook::Bridge => held,
        };
        work.end(if held { Reason::Icmp } else { Reason::NotIsolated });
        return;
    }
    if (from_pod && !work.answers || to_pod && work.answers) && left_to_bridge(work) {
        work.end(Reason::LeftToBridge);
        return;
    }
    let protocol = work.frame.protocol;
    let port = match protocol {
        TCP | UDP | SCTP => u16::from_be_bytes(work.key.tuple.destination_port),
        _ => 0,
    };
    let what = u32::from(port) << 8 | u32::from(protocol);
    if work.source.flags & EGRESS != 0
        && !allowed(world, work.source.egress, &work.key.tuple.destination, what)
    {
        let reason = class(work, Reason::Egress);
        if work.config.allow & reason.option() == 0 {
            work.end(reason);
            return;
        }
    }
    // To the bridge's program a node's own traffic does not come.
    if work.destination.flags & INGRESS != 0
        && work.source.flags & endpoint_flag::OWN_NODE == 0
        && !allowed(world, work.destination.ingress, &work.key.tuple.source, what)
    {
        let reason = class(work, Reason::Ingress);
        work.end(reason);
        return;
    }
    work.end(if held { Reason::Policy } else { Reason::NotIsolated });
}

/// Whether the bridge's program decides. What reaches a pod may be bridged and never get there; so may what reaches a
/// group, and what is for the link alone.
#[inline(always)]
fn left_to_bridge(work: &Work) -> bool {
    work.veth.flags & veth_flag::BRIDGED != 0
        && !work.frame.group
        && work.destination.pod == 0
        && !link_local(&work.key.tuple.source)
        && !link_local(&work.key.tuple.destination)
        && !multicast(&work.key.tuple.destination)
}

/// For another address than the pod's: bridged by its MAC address alone.
#[inline(always)]
fn strays<W: World>(world: &W, work: &mut Work) -> bool {
    if work.frame.group || link_local(&work.frame.destination) || multicast(&work.frame.destination) {
        return false;
    }
    let mut there = Endpoint::NONE;
    world.endpoint(&work.frame.destination, &mut there);
    there.pod != work.own.pod
}

/// What the specification leaves open of a packet that the policies do not allow; else `plain`.
#[inline(always)]
fn class(work: &Work, plain: Reason) -> Reason {
    if work.source.pod != 0 && work.source.pod == work.destination.pod {
        return Reason::Hairpin;
    }
    if work.destination.flags & endpoint_flag::OWN_NODE != 0 {
        return Reason::OwnNode;
    }
    if multicast(&work.key.tuple.destination) {
        return Reason::Multicast;
    }
    if link_local(&work.key.tuple.source) || link_local(&work.key.tuple.destination) {
        return Reason::LinkLocal;
    }
    match work.frame.protocol {
        TCP | UDP | SCTP => plain,
        ICMP | ICMPV6 => Reason::Icmp,
        _ => Reason::OtherProtocol,
    }
}

/// Whether a set allows a peer `what`, which is a port and a protocol: the longest prefix alone decides.
#[inline(never)]
fn allowed<W: World>(world: &W, set: u32, peer: &[u8; 16], what: u32) -> bool {
    let (port, protocol) = ((what >> 8) as u16, (what & 0xff) as u16);
    let Some(list) = world.ports(set, peer) else { return false };
    if list == ALL_PORTS {
        return true;
    }
    let mut key = ChunkKey { list, number: 0 };
    while key.number < CHUNKS {
        let Some(chunk) = world.chunk(&key) else { return false };
        // All ranges of a chunk are there; those beyond its count match nothing.
        for range in &chunk.ranges {
            if (range.protocol == 0 || range.protocol == protocol)
                && range.first <= port
                && port <= range.last
            {
                return true;
            }
        }
        if chunk.more == 0 {
            return false;
        }
        key.number += 1;
    }
    false
}

/// Remembers what was decided, where anybody is held to anything.
#[inline(never)]
fn kept<W: World>(world: &W, work: &mut Work) {
    let reason = work.outcome.reason;
    let kind = work.frame.kind as u8;
    let plain = matches!(reason, Reason::NotIsolated | Reason::LeftToBridge | Reason::FromOwnNode);
    let flow = kind != Kind::LaterFragment as u8
        && kind != Kind::Error as u8
        && (kind != Kind::EchoReply as u8 || work.answers);
    work.outcome.first = flow && !plain && !work.known;
    let held = (work.source.flags | work.destination.flags) & (EGRESS | INGRESS) != 0;
    let told_only = reason.denies() && work.config.mode == Mode::Audit as u32;
    // A spoofed source is no end of a flow.
    if flow && held && (!reason.denies() || told_only && !matches!(reason, Reason::Spoofed)) {
        if !work.answers {
            let opening = work.opening();
            let closing = work.ending() || work.known && work.flow.closing != 0 && !opening;
            work.flow.closing = u8::from(closing);
            work.flow.until = work.now + if closing { CLOSING_ALIVE } else { alive(work.frame.protocol) };
        }
        work.flow.generation = work.here.generation;
        work.flow.reason = reason as u8;
        work.flow.reserved = 0;
        world.remember(&work.key, &work.flow);
        if work.frame.fragmented {
            remember_fragments(world, work, reason as u8);
        }
    }
    let error = kind == Kind::Error as u8;
    if !reason.denies() && work.known && (work.answers || error) {
        work.outcome.reason = Reason::Reply;
    }
}

/// Remembers the number of a datagram whose first fragment passes.
#[inline(always)]
fn remember_fragments<W: World>(world: &W, work: &mut Work, reason: u8) {
    let [a, b, c, d] = work.frame.fragment;
    work.key.tuple.source = work.frame.source;
    work.key.tuple.destination = work.frame.destination;
    work.key.tuple.source_port = [a, b];
    work.key.tuple.destination_port = [c, d];
    work.key.role = work.here.hook as u8 | ROLE_FRAGMENTS;
    work.flow.until = work.now + OTHER_ALIVE;
    work.flow.reason = reason;
    world.remember(&work.key, &work.flow);
}

/// How long a flow lives after a packet of it.
#[inline(always)]
fn alive(protocol: u8) -> u64 {
    match protocol {
        TCP => TCP_ALIVE,
        UDP | SCTP => UDP_ALIVE,
        _ => OTHER_ALIVE,
    }
}

/// The other direction, in place.
#[inline(always)]
fn turn(into: &mut Tuple, tuple: &Tuple) {
    into.source = tuple.destination;
    into.destination = tuple.source;
    into.source_port = tuple.destination_port;
    into.destination_port = tuple.source_port;
}
