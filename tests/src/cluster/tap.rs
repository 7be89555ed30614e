//! What passes an interface, by a packet socket (packet(7)): everything that "the internet" receives, with its time, and
//! frames that no IP stack would send.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use etherparse::{LaxSlicedPacket, TransportSlice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::lock;
use super::place::{Place, inside};

/// A packet that came in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it was read.
    pub at: Instant,
    /// From whom it says it is.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The number of its protocol.
    pub protocol: u8,
    /// The port that it goes to.
    pub port: Option<u16>,
    /// What it carries above UDP or TCP, or above IP.
    pub payload: Vec<u8>,
}

/// Listens until it is dropped.
pub struct Tap {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// On an interface; what is kept of what comes in.
    ///
    /// # Errors
    /// There is no such interface, or this is not root.
    pub fn of(
        namespace: &str,
        interface: &str,
        keep: impl Fn(&Arrival) -> bool + Send + 'static,
    ) -> Result<Self> {
        let fd = inside(namespace, || open(interface))?;
        let (arrivals, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, stop) = (Arc::clone(&arrivals), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut frame = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ready, PollTimeout::from(20_u8));
                while let Ok(length) = recv(fd.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                    if let Some(arrival) = read(&frame[..length]).filter(|a| keep(a)) {
                        lock(&into).push(arrival);
                    }
                }
            }
        });
        Ok(Self { arrivals, over, thread: Some(thread) })
    }

    /// What came since the last time.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut lock(&self.arrivals))
    }

    /// Forgets what came.
    pub fn clear(&self) {
        drop(self.take());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(interface: &str) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    let address = nix::ifaddrs::getifaddrs()?
        .filter(|one| one.interface_name == interface)
        .find_map(|one| one.address?.as_link_addr().copied());
    let address: LinkAddr = address.with_context(|| format!("no interface {interface}"))?;
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

/// Sends a frame as it is.
///
/// # Errors
/// There is no such interface, or the kernel refuses the frame.
pub fn send_frame(place: &Place, interface: &str, frame: &[u8]) -> Result<()> {
    let fd = inside(place.namespace(), || open(interface))?;
    send(fd.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
    Ok(())
}

/// Whether a frame that ends so comes in on an interface when this is done, whatever it is above Ethernet.
///
/// # Errors
/// There is no such interface, or this is not root.
pub fn sees_frame(place: &Place, interface: &str, end: &[u8], work: impl FnOnce()) -> Result<bool> {
    let fd = inside(place.namespace(), || open(interface))?;
    work();
    let begin = Instant::now();
    let mut frame = [0; 2048];
    while begin.elapsed().as_millis() < 400 {
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(20_u8))?;
        while let Ok(length) = recv(fd.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            if frame[..length].ends_with(end) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn read(frame: &[u8]) -> Option<Arrival> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination, protocol, above) = match packet.net? {
        etherparse::LaxNetSlice::Ipv4(ip) => (
            IpAddr::V4(ip.header().source_addr()),
            IpAddr::V4(ip.header().destination_addr()),
            ip.payload().ip_number.0,
            ip.payload().payload,
        ),
        etherparse::LaxNetSlice::Ipv6(ip) => (
            IpAddr::V6(ip.header().source_addr()),
            IpAddr::V6(ip.header().destination_addr()),
            ip.payload().ip_number.0,
            ip.payload().payload,
        ),
        _ => return None,
    };
    let (port, payload) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (Some(tcp.destination_port()), tcp.payload()),
        Some(TransportSlice::Udp(udp)) => (Some(udp.destination_port()), udp.payload()),
        _ => (None, above),
    };
    Some(Arrival { at: Instant::now(), source, destination, protocol, port, payload: payload.to_vec() })
}
