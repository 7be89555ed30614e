//! The clsact hooks of interfaces, by rtnetlink: which interfaces have such a qdisc, which filters are on it, and how both
//! are removed. Replies are read attribute by attribute, so that a kind of filter that nobody here knows is still seen to be there.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcHeader, TcMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use sniffer_ebpf::{Hook, PROGRAM_EGRESS, PROGRAM_INGRESS};

/// The kernel sends at most this much at once.
const MESSAGE: usize = 64 << 10;
/// `struct nlmsghdr` (netlink.h).
const HEADER: usize = 16;
/// `struct tcmsg` (rtnetlink.h).
const TC_HEADER: usize = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// What was listed changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// How often a list that changed meanwhile is asked for again.
const TRIES: usize = 8;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// The bits of an attribute's type that say how its value is laid out.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A filter on one of the two hooks of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Filter {
    /// Where.
    pub(super) hook: Hook,
    /// `bpf`, `u32`, `flower`, …
    pub(super) kind: String,
    /// Its priority in the upper, its protocol in the lower half.
    pub(super) info: u32,
    /// Its number within the priority; 0 stands for the priority itself.
    pub(super) handle: u32,
    /// What a `bpf` filter is called.
    pub(super) name: Option<String>,
    /// The kernel's number of its program.
    pub(super) program: Option<u32>,
}

impl Filter {
    /// Whether a fedisniff made it.
    pub(super) fn ours(&self) -> bool {
        let program = match self.hook {
            Hook::Ingress => PROGRAM_INGRESS,
            Hook::Egress => PROGRAM_EGRESS,
        };
        self.kind == "bpf" && self.name.as_deref() == Some(program)
    }
}

/// A socket for questions.
pub(super) struct Tc {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Tc {
    /// Opens it.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: Vec::with_capacity(MESSAGE) })
    }

    /// The interfaces that have a qdisc for these hooks, with its kind: `clsact`, or `ingress`, which lacks the second.
    pub(super) fn qdiscs(&mut self) -> io::Result<Vec<(u32, String)>> {
        let ask = || RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let mut found = Vec::new();
        self.list(ask, |reply| {
            if reply.header.parent == TcHandle::CLSACT
                && let (Ok(index), Some(kind)) = (u32::try_from(reply.header.index), reply.text(TCA_KIND))
            {
                found.push((index, kind));
            }
        })?;
        found.dedup();
        Ok(found)
    }

    /// The filters on both hooks of an interface; none where there is no such qdisc.
    pub(super) fn filters(&mut self, index: u32) -> io::Result<Vec<Filter>> {
        let mut found = Vec::new();
        for hook in [Hook::Ingress, Hook::Egress] {
            let ask = || RouteNetlinkMessage::GetTrafficFilter(message(index, hook));
            self.list(ask, |reply| {
                let options = reply.attribute(TCA_OPTIONS).unwrap_or_default();
                let name = attribute(options, TCA_BPF_NAME).map(text);
                let program = attribute(options, TCA_BPF_ID)
                    .and_then(|v| v.first_chunk::<4>())
                    .map(|v| u32::from_ne_bytes(*v));
                found.push(Filter {
                    hook,
                    kind: reply.text(TCA_KIND).unwrap_or_default(),
                    info: reply.header.info,
                    handle: reply.header.handle.into(),
                    name,
                    program,
                });
            })?;
        }
        Ok(found)
    }

    /// Removes a filter.
    pub(super) fn remove_filter(&mut self, index: u32, filter: &Filter) -> io::Result<()> {
        let mut message = message(index, filter.hook);
        message.header.info = filter.info;
        message.header.handle = filter.handle.into();
        self.change(RouteNetlinkMessage::DelTrafficFilter(message))
    }

    /// Removes an interface's clsact qdisc with all that is on it.
    pub(super) fn remove_clsact(&mut self, index: u32) -> io::Result<()> {
        let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or_default());
        message.header.parent = TcHandle::CLSACT;
        self.change(RouteNetlinkMessage::DelQueueDiscipline(message))
    }

    fn change(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.send(message, NLM_F_ACK | NLM_F_REQUEST)?;
        self.receive(&mut Vec::new()).map(|_| ())
    }

    /// Asks for a list and gives each of its entries; again from the beginning when it changed meanwhile.
    fn list(
        &mut self,
        ask: impl Fn() -> RouteNetlinkMessage,
        mut each: impl FnMut(&Reply<'_>),
    ) -> io::Result<()> {
        for _ in 0..TRIES {
            self.send(ask(), NLM_F_DUMP | NLM_F_REQUEST)?;
            let mut replies = Vec::new();
            if self.receive(&mut replies)? {
                replies.iter().filter_map(|bytes| Reply::new(bytes)).for_each(|reply| each(&reply));
                return Ok(());
            }
        }
        Err(io::Error::other("the list of qdiscs or filters changes all the time"))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Takes messages until the answer is complete; false when what was listed changed meanwhile.
    fn receive(&mut self, replies: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        let mut steady = true;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = self.buffer.as_slice();
            while let Some((length, kind, flags)) = header(rest) {
                let Some(bytes) = rest.get(HEADER..length) else { break };
                steady &= flags & NLM_F_DUMP_INTR == 0;
                match kind {
                    NLMSG_DONE => return Ok(steady),
                    NLMSG_ERROR => {
                        let code = bytes.first_chunk::<4>().map_or(0, |c| i32::from_ne_bytes(*c));
                        // 0 acknowledges.
                        return match code {
                            0 => Ok(steady),
                            code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                        };
                    }
                    _ => replies.push(bytes.to_vec()),
                }
                // Messages begin at multiples of 4 (NLMSG_ALIGN).
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A message's length, kind and flags.
fn header(bytes: &[u8]) -> Option<(usize, u16, u16)> {
    let [l0, l1, l2, l3, k0, k1, f0, f1] = *bytes.first_chunk::<8>()?;
    let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    (length >= HEADER).then_some((length, u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1])))
}

/// Of an interface's hook.
fn message(index: u32, hook: Hook) -> TcMessage {
    let minor = match hook {
        Hook::Ingress => TcHandle::MIN_INGRESS,
        Hook::Egress => TcHandle::MIN_EGRESS,
    };
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or_default());
    message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
    message
}

/// One entry of a list.
struct Reply<'a> {
    header: TcHeader,
    attributes: &'a [u8],
}

impl<'a> Reply<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { header: TcHeader::parse(bytes).ok()?, attributes: bytes.get(TC_HEADER..)? })
    }

    fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        attribute(self.attributes, kind)
    }

    fn text(&self, kind: u16) -> Option<String> {
        self.attribute(kind).map(text)
    }
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(bytes).map_while(Result::ok).find(|a| a.kind() & NLA_TYPE_MASK == kind)?;
    let length = found.value_length();
    // The value lies inside `bytes`; the library's accessor borrows from its own copy of the slice.
    let value = found.into_inner();
    value.get(4..4_usize.checked_add(length)?)
}

/// Without the zero that ends it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}
