//! What the programs tell: from the ring buffer's octets to events with names, through a queue that never blocks.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::time::{ClockId, clock_gettime};
use sniffer_ebpf::deny::{Event, Hook, Reason, decode};

use crate::frame::Timestamp;
use crate::policy::compiled::{Address, ip};

/// A packet that was denied or would be, or the first of a flow that a policy allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// When.
    pub time: Timestamp,
    /// The pod at whose veth it was seen; at the bridge the sender.
    pub pod: Option<String>,
    /// Source address and port, as the hook saw them.
    pub source: (Address, u16),
    /// Whose the source address is.
    pub source_pod: Option<String>,
    /// Destination address and port, as the hook saw them: at the bridge after translation of Services.
    pub destination: (Address, u16),
    /// Whose the destination address is.
    pub destination_pod: Option<String>,
    /// The IP protocol; 0 where it is no IP.
    pub protocol: u8,
    /// Ethernet's type.
    pub ether_type: u16,
    /// Octets of the packet.
    pub length: u32,
    /// Where it was decided.
    pub hook: Hook,
    /// The interface's name.
    pub interface: Option<String>,
    /// Why.
    pub reason: Reason,
    /// It was dropped; else it passed, though in audit it may be one that would be denied.
    pub dropped: bool,
    /// The policies that isolate the pod, where it was denied.
    pub policies: Vec<String>,
    /// Like ones that were not told since the last one of the kind.
    pub untold: u32,
    /// The generation of the policies.
    pub generation: u32,
    pub(super) pod_number: u64,
    pub(super) interface_index: u32,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.reason.denies(), self.dropped) {
            (true, true) => "denied: ",
            (true, false) => "would deny: ",
            (false, _) => "allowed: ",
        })?;
        match (&self.pod, &self.interface) {
            (Some(pod), _) => f.write_str(pod)?,
            (None, Some(interface)) => write!(f, "unknown pod at {interface}")?,
            (None, None) => f.write_str("unknown pod")?,
        }
        if self.protocol == 0 {
            write!(f, ", a frame of type {:04x}", self.ether_type)?;
        } else {
            let name = |(address, port): (Address, u16)| match self.protocol {
                6 | 17 | 132 => std::net::SocketAddr::new(ip(&address), port).to_string(),
                _ => ip(&address).to_string(),
            };
            write!(f, ", {} {} -> {}", protocol(self.protocol), name(self.source), name(self.destination))?;
            if let Some(pod) = &self.destination_pod {
                write!(f, " ({pod})")?;
            }
        }
        write!(f, " [{}", self.reason.word())?;
        if !self.policies.is_empty() {
            write!(f, " by {}", self.policies.join(", "))?;
        }
        f.write_str("]")?;
        if self.untold > 0 {
            write!(f, ", and {} like it before", self.untold)?;
        }
        Ok(())
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        number => format!("IP protocol {number}"),
    }
}

/// Events wait here for so long as nobody takes them; then the oldest go.
const MOST: usize = 16_384;

/// Between the thread that reads and whoever wants to know.
#[derive(Default)]
pub struct Queue(Mutex<(VecDeque<Told>, u64)>);

impl Queue {
    fn push(&self, told: Told) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.0.len() >= MOST {
            queue.0.pop_front();
            queue.1 += 1;
        }
        queue.0.push_back(told);
    }

    /// All that waits, and how many went since the last call.
    pub(super) fn take(&self) -> (Vec<Told>, u64) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut queue.1);
        (queue.0.drain(..).collect(), dropped)
    }
}

pub(super) struct Reader {
    events: RingBuf<MapData>,
    queue: Arc<Queue>,
}

impl Reader {
    pub(super) fn new(events: RingBuf<MapData>, queue: Arc<Queue>) -> Self {
        Self { events, queue }
    }

    pub(super) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let offset = wall_offset();
            while let Some(item) = self.events.next() {
                match decode(&item) {
                    Ok((event, hook, reason)) => self.queue.push(told(&event, hook, reason, offset)),
                    Err(error) => tracing::debug!("an event of the programs that deny: {error}"),
                }
            }
            let mut polled = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut polled, PollTimeout::from(50_u8));
        }
    }
}

/// From the time since boot to the wall clock; the latter may be set at any time.
fn wall_offset() -> u64 {
    let nanos = |clock| {
        let time = clock_gettime(clock).ok()?;
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(time.tv_nsec()).ok()?)
    };
    let (wall, boot) = (nanos(ClockId::CLOCK_REALTIME), nanos(ClockId::CLOCK_BOOTTIME));
    wall.unwrap_or(0).saturating_sub(boot.unwrap_or(0))
}

fn told(event: &Event, hook: Hook, reason: Reason, offset: u64) -> Told {
    Told {
        time: Timestamp(event.boot_nanos.saturating_add(offset)),
        pod: None,
        source: (event.tuple.source, u16::from_be_bytes(event.tuple.source_port)),
        source_pod: None,
        destination: (event.tuple.destination, u16::from_be_bytes(event.tuple.destination_port)),
        destination_pod: None,
        protocol: event.protocol,
        ether_type: event.ether_type,
        length: event.length,
        hook,
        interface: None,
        reason,
        dropped: event.dropped != 0,
        policies: Vec::new(),
        untold: event.untold,
        generation: event.generation,
        pod_number: event.pod,
        interface_index: event.interface,
    }
}
