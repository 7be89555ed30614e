//! Frames by hand: a packet socket on one interface (packet(7)), and a relay between two that loses, repeats and
//! reorders, as `netem` does where a kernel has it.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::ifaddrs::InterfaceAddress;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, sendto, socket,
};
use tests::federation::Random;

/// The socket.
pub(super) struct Raw(OwnedFd);

impl Raw {
    /// On an interface of this thread's namespace, which is up.
    pub(super) fn open(interface: &str) -> Self {
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)
            .expect("this runs as root");
        let address = addresses(|one| one.interface_name == interface);
        let address = address.first().unwrap_or_else(|| panic!("no interface {interface}"));
        bind(fd.as_raw_fd(), address).expect("bound");
        Self(fd)
    }

    /// What this namespace's own IP takes in of a protocol: after every hook and filter (raw(7)).
    pub(super) fn delivered(family: AddressFamily, protocol: SockProtocol) -> Self {
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol).expect("this runs as root");
        Self(fd)
    }

    pub(super) fn send(&self, frame: &[u8]) {
        let sent = loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                // The interface's queue is full for a moment.
                Err(Errno::ENOBUFS | Errno::EAGAIN) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!(sent, Ok(frame.len()));
    }

    /// The next frame's length, which may be more than the buffer has; `None` when there is none.
    pub(super) fn next(&self, frame: &mut [u8]) -> Option<usize> {
        recv(self.0.as_raw_fd(), frame, MsgFlags::MSG_TRUNC).ok()
    }
}

/// The link-layer addresses, which hold the index, of this thread's interfaces.
pub(super) fn addresses(which: impl Fn(&InterfaceAddress) -> bool) -> Vec<LinkAddr> {
    nix::ifaddrs::getifaddrs()
        .expect("the interfaces")
        .filter(which)
        .filter_map(|one| one.address?.as_link_addr().copied())
        .collect()
}

/// Sends a frame from each of many interfaces, so often. One socket does: to close one waits for a grace period of RCU.
pub(super) fn send_from(interfaces: &[LinkAddr], frame: &[u8], times: usize) {
    let fd =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("this runs as root");
    for address in interfaces {
        for _ in 0..times {
            assert_eq!(sendto(fd.as_raw_fd(), frame, address, MsgFlags::empty()), Ok(frame.len()));
        }
    }
}

/// The longest frame that passes an interface until `end` is set.
pub(super) fn longest(interface: &str, end: &AtomicBool) -> usize {
    let raw = Raw::open(interface);
    let mut longest = 0;
    while !end.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(raw.0.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20_u8));
        while let Some(length) = raw.next(&mut [0; 64]) {
            longest = longest.max(length);
        }
    }
    longest
}

/// Carries frames between two interfaces until `end` is set; of a hundred it loses three, holds four back until others
/// have passed them, and repeats one. Gives how many it lost.
pub(super) fn relay(interfaces: [&str; 2], end: &Arc<AtomicBool>) -> u64 {
    let ends = interfaces.map(Raw::open);
    let mut random = Random(3);
    let mut held: [Vec<(u64, Vec<u8>)>; 2] = [Vec::new(), Vec::new()];
    let (mut lost, mut passed) = (0, 0_u64);
    let mut buffer = vec![0; 70_000];
    while !end.load(Ordering::Relaxed) {
        let mut polled = [0, 1].map(|at: usize| PollFd::new(ends[at].0.as_fd(), PollFlags::POLLIN));
        let idle = poll(&mut polled, PollTimeout::from(5_u8)) == Ok(0);
        for (from, to) in [(0, 1), (1, 0)] {
            while let Some(length) = ends[from].next(&mut buffer) {
                let frame = &buffer[..length];
                passed += 1;
                match random.below(100) {
                    0..3 => lost += 1,
                    3..7 => held[to].push((passed + 1 + random.below(12), frame.to_vec())),
                    7 => {
                        ends[to].send(frame);
                        ends[to].send(frame);
                    }
                    _ => ends[to].send(frame),
                }
                release(&ends[to], &mut held[to], passed);
            }
            if idle {
                release(&ends[to], &mut held[to], u64::MAX);
            }
        }
    }
    lost
}

fn release(end: &Raw, held: &mut Vec<(u64, Vec<u8>)>, now: u64) {
    held.retain(|(when, frame)| {
        let due = *when <= now;
        if due {
            end.send(frame);
        }
        !due
    });
}
