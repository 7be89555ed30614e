//! The node's interfaces, followed by rtnetlink (rtnetlink(7)): a list of all, then each change as it happens.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// `RTMGRP_LINK` (rtnetlink.h).
const GROUP_LINK: u32 = 1;
/// Room in the socket for a burst: 200 pods that start at once make some thousand messages of about 1.5 KiB.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel sends at most this much at once.
const MESSAGE: usize = 64 << 10;

/// The kernel answers at once; so long is waited for the next part of its list.
pub(crate) const LISTING: Duration = Duration::from_secs(5);

/// An interface, as far as choosing needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// The kernel's index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// It is one end of a veth pair.
    pub(crate) veth: bool,
    /// Its other end lies in another network namespace.
    pub(crate) peer_elsewhere: bool,
    /// The index of the bridge (or bond) that it is a port of.
    pub(crate) bridge: Option<u32>,
    /// The index of a veth's other end, in the namespace where that is.
    pub(crate) peer: Option<u32>,
    /// The number that this namespace has for that one.
    pub(crate) peer_namespace: Option<i32>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// An interface is there, or is now so.
    Present(Link),
    /// An interface went away.
    Gone(u32),
    /// The list that was asked for is complete: what it did not name is gone.
    Listed,
    /// The kernel had more to say than the socket holds: ask for the list again.
    Missed,
}

/// The socket.
pub(crate) struct Links {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Links {
    /// Subscribes, then asks for the list: what is born in between is told by both.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUP_LINK))?;
        // Best effort: without CAP_NET_ADMIN the kernel allows less, and `Missed` covers that.
        let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER);
        let mut links = Self { socket, buffer: Vec::with_capacity(MESSAGE) };
        links.ask()?;
        Ok(links)
    }

    /// Asks for the list of all interfaces.
    pub(crate) fn ask(&mut self) -> io::Result<()> {
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
        );
        message.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Waits for changes, at most `wait`, and gives those that came.
    pub(crate) fn next(&mut self, wait: Duration, changes: &mut Vec<Change>) -> io::Result<()> {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let ready = {
            let mut polled = [PollFd::new(self.fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut polled, timeout)
        };
        match ready {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer, 0) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
                changes.push(Change::Missed);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let mut rest = self.buffer.as_slice();
        // A message that this version of the library does not understand is passed over by its length.
        while let Some(length) =
            rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize).filter(|l| *l >= 16)
        {
            let Some(bytes) = rest.get(..length) else { break };
            if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                changes.extend(change(message.payload));
            }
            // Messages begin at multiples of 4 (NLMSG_ALIGN).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Links {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            link(&message).map(Change::Present)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            // Leaving a bridge is told as a DELLINK of the bridge's family; the interface itself stays.
            let of_bridge = u8::from(message.header.interface_family) != 0;
            (!of_bridge).then_some(Change::Gone(message.header.index))
        }
        NetlinkPayload::Done(_) => Some(Change::Listed),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        veth: false,
        peer_elsewhere: false,
        bridge: None,
        peer: None,
        peer_namespace: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.bridge = Some(*index).filter(|i| *i != 0),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::LinkNetNsId(number) => {
                link.peer_elsewhere = true;
                link.peer_namespace = Some(*number);
            }
            LinkAttribute::LinkInfo(infos) => {
                link.veth |= infos.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    // Messages of the bridge's family tell of a port and lack its kind: the ordinary message comes as well.
    let whole = u8::from(message.header.interface_family) == 0 && !link.name.is_empty();
    whole.then_some(link)
}

/// The number that this namespace has for another one, which is open as a file; `None` when it has none, as no interface
/// here has its other end there.
pub(crate) fn namespace_number(namespace: &std::fs::File) -> io::Result<Option<i32>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    let fd = u32::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    let mut question = NsidMessage::default();
    question.attributes.push(NsidAttribute::Fd(fd));
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetNsId(question)),
    );
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(MESSAGE);
    socket.recv(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload else {
        return Ok(None);
    };
    Ok(answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    }))
}

/// All interfaces of this namespace.
pub(crate) fn list() -> io::Result<Vec<Link>> {
    let mut links = Links::open()?;
    let mut changes = Vec::new();
    while !changes.contains(&Change::Listed) {
        let before = changes.len();
        links.next(LISTING, &mut changes)?;
        if changes.len() == before {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
    }
    // One that changes meanwhile is told twice, and the second time as it is now.
    let mut links = std::collections::BTreeMap::new();
    for change in changes {
        match change {
            Change::Present(link) => {
                links.insert(link.index, link);
            }
            Change::Gone(index) => {
                links.remove(&index);
            }
            Change::Listed | Change::Missed => {}
        }
    }
    Ok(links.into_values().collect())
}

/// The interfaces that carry a default route, by name: the node's ways out.
pub(crate) fn ways_out() -> Vec<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    // Iface Destination Gateway Flags RefCnt Use Metric Mask …
    for line in read("/proc/thread-self/net/route").lines().skip(1) {
        let mut fields = line.split_ascii_whitespace();
        if let (Some(name), Some("00000000"), Some("00000000")) =
            (fields.next(), fields.next(), fields.nth(5))
        {
            names.push(name.into());
        }
    }
    // destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags, name
    for line in read("/proc/thread-self/net/ipv6_route").lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [destination, "00", _, _, hop, .., name] = fields.as_slice()
            && destination.bytes().chain(hop.bytes()).any(|b| b != b'0')
            && *name != "lo"
        {
            names.push((*name).into());
        }
    }
    names
}
