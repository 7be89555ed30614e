//! The reading thread: empties the ring buffer into batches. It looks every few milliseconds; the kernel wakes it only
//! when the ring buffer fills faster than that.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::time::{ClockId, clock_gettime};
use sniffer_ebpf::CAPTURED_MAX;
use sniffer_ebpf::decode::{Record, decode};

use super::Shared;
use super::queue::{Batch, Queue};
use crate::frame::{Hook, Timestamp};

/// Milliseconds between two looks while packets come.
const BUSY: u16 = 2;
/// And while none do.
const IDLE: u16 = 8;
/// A batch is handed over at this size, however much is left in the ring buffer.
const BATCH: usize = 256 << 10;

pub(super) struct Reader {
    records: RingBuf<MapData>,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    joiner: Joiner,
    batch: Batch,
    clock: Clock,
}

impl Reader {
    pub(super) fn new(records: RingBuf<MapData>, queue: Arc<Queue>, shared: Arc<Shared>) -> Self {
        Self {
            records,
            queue,
            shared,
            joiner: Joiner::default(),
            batch: Batch::default(),
            clock: Clock::default(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            // Read before looking: what was copied before the end is in the ring buffer then, and is taken.
            let last = self.shared.detached();
            let came = self.drain();
            if last && !came {
                self.joiner.flush_all(&mut self.batch, &self.clock);
                hand_over(&mut self.batch, &self.queue, &self.shared);
                return;
            }
            if !last {
                self.wait(if came { BUSY } else { IDLE });
            }
        }
    }

    fn wait(&self, milliseconds: u16) {
        let mut polled = [PollFd::new(self.records.as_fd(), PollFlags::POLLIN)];
        // Readable also while records wait that nobody was woken for; `drain` has just taken those.
        if let Err(error) = nix::poll::poll(&mut polled, PollTimeout::from(milliseconds))
            && error != nix::errno::Errno::EINTR
        {
            tracing::warn!("wait for packets: {error}");
            std::thread::sleep(std::time::Duration::from_millis(milliseconds.into()));
        }
    }

    /// Takes all that is there; true when something was.
    fn drain(&mut self) -> bool {
        self.clock.look();
        let mut came = false;
        let mut undecodable = 0;
        while let Some(item) = self.records.next() {
            came = true;
            match decode(&item) {
                Ok(record) => self.joiner.push(&record, &mut self.batch, &self.clock),
                Err(_) => undecodable += 1,
            }
            drop(item);
            if self.batch.weight() >= BATCH {
                hand_over(&mut self.batch, &self.queue, &self.shared);
            }
        }
        if !came {
            // What a packet's other records would have brought is not coming.
            self.joiner.flush_all(&mut self.batch, &self.clock);
        }
        if undecodable > 0 {
            self.shared.snapshot().undecodable += undecodable;
        }
        hand_over(&mut self.batch, &self.queue, &self.shared);
        came
    }
}

fn hand_over(batch: &mut Batch, queue: &Queue, shared: &Shared) {
    if batch.is_empty() {
        return;
    }
    let (empty, frames, octets) = queue.push(std::mem::take(batch));
    *batch = empty;
    if frames > 0 {
        let mut snapshot = shared.snapshot();
        snapshot.dropped_frames += frames;
        snapshot.dropped_octets += octets;
    }
}

/// From the kernel's clock since boot to the wall clock.
#[derive(Default)]
struct Clock {
    boot_to_wall: u64,
}

impl Clock {
    /// The wall clock may have been set since the last look.
    fn look(&mut self) {
        let nanos = |clock| {
            clock_gettime(clock).ok().and_then(|t| {
                let seconds = u64::try_from(t.tv_sec()).ok()?;
                seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(t.tv_nsec()).ok()?)
            })
        };
        if let (Some(boot), Some(wall)) = (nanos(ClockId::CLOCK_BOOTTIME), nanos(ClockId::CLOCK_REALTIME)) {
            self.boot_to_wall = wall.saturating_sub(boot);
        }
    }

    fn wall(&self, boot_nanos: u64) -> Timestamp {
        Timestamp(boot_nanos.saturating_add(self.boot_to_wall))
    }
}

/// From records to frames: puts packets together that took several records, and finds what was lost.
#[derive(Default)]
struct Joiner {
    /// The last packet that was seen of a CPU, an interface and a hook.
    last: HashMap<(u16, u32, u8), u64, foldhash::fast::RandomState>,
    /// A packet of which more records are to come, by CPU: they follow each other there.
    open: HashMap<u16, Open, foldhash::fast::RandomState>,
}

struct Open {
    interface: u32,
    hook: u8,
    sequence: u64,
    boot_nanos: u64,
    wire_length: u32,
    octets: Vec<u8>,
}

impl Joiner {
    fn push(&mut self, record: &Record<'_>, batch: &mut Batch, clock: &Clock) {
        let header = &record.header;
        if !self.open.is_empty() {
            match self.open.get_mut(&header.cpu) {
                Some(open)
                    if (open.interface, open.hook, open.sequence)
                        == (header.interface, header.hook, header.sequence)
                        && open.octets.len() == header.offset as usize =>
                {
                    open.octets.extend_from_slice(record.packet);
                    let whole = open.octets.len() >= open.wire_length as usize;
                    if whole || header.captured_length < CAPTURED_MAX {
                        self.flush(header.cpu, batch, clock);
                    }
                    return;
                }
                Some(_) => self.flush(header.cpu, batch, clock),
                None => {}
            }
        }
        if header.offset != 0 {
            // Its beginning was never here; without headers it is nothing.
            return;
        }
        let key = (header.cpu, header.interface, header.hook);
        let before = self.last.insert(key, header.sequence).unwrap_or(0);
        let lost = header.sequence.saturating_sub(before.saturating_add(1));
        let time = clock.wall(header.boot_nanos);
        if lost > 0 {
            batch.loss(time, header.interface, lost);
        }
        if header.captured_length == CAPTURED_MAX && header.captured_length < header.wire_length {
            let open = Open {
                interface: header.interface,
                hook: header.hook,
                sequence: header.sequence,
                boot_nanos: header.boot_nanos,
                wire_length: header.wire_length,
                octets: record.packet.to_vec(),
            };
            self.open.insert(header.cpu, open);
            return;
        }
        let hook = hook(header.hook);
        batch.frame(time, header.interface, hook, record.packet, header.wire_length);
    }

    fn flush(&mut self, cpu: u16, batch: &mut Batch, clock: &Clock) {
        if let Some(open) = self.open.remove(&cpu) {
            let time = clock.wall(open.boot_nanos);
            batch.frame(time, open.interface, hook(open.hook), &open.octets, open.wire_length);
        }
    }

    fn flush_all(&mut self, batch: &mut Batch, clock: &Clock) {
        let mut cpus: Vec<u16> = self.open.keys().copied().collect();
        cpus.sort_unstable();
        for cpu in cpus {
            self.flush(cpu, batch, clock);
        }
    }
}

fn hook(number: u8) -> Hook {
    if number == sniffer_ebpf::Hook::Ingress as u8 { Hook::Ingress } else { Hook::Egress }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
mod tests {
    use sniffer_ebpf::decode::decode;
    use sniffer_ebpf::{CAPTURED_MAX, Header, VERSION, decode::encode};

    use super::{Clock, Joiner};
    use crate::capture::live::queue::{Batch, Item};

    fn header(cpu: u16, sequence: u64, offset: u32, captured: u32, wire: u32) -> Header {
        Header {
            boot_nanos: 1_000,
            sequence,
            wire_length: wire,
            captured_length: captured,
            offset,
            interface: 7,
            came_from: 0,
            cpu,
            hook: 0,
            version: VERSION,
        }
    }

    fn run(records: &[Header]) -> Vec<String> {
        let (mut joiner, mut batch, clock) = (Joiner::default(), Batch::default(), Clock { boot_to_wall: 5 });
        for header in records {
            let fill = header.sequence as u8;
            let bytes = [&encode(header)[..], &vec![fill; header.captured_length as usize]].concat();
            joiner.push(&decode(&bytes).expect("a record"), &mut batch, &clock);
        }
        joiner.flush_all(&mut batch, &clock);
        batch
            .items()
            .map(|item| match item {
                Item::Frame(f) => {
                    format!("{} {} of {} at {}", f.bytes[0], f.bytes.len(), f.wire_length, f.time.0)
                }
                Item::Loss(loss) => format!("lost {}", loss.frames),
                Item::Name(..) => "name".into(),
            })
            .collect()
    }

    #[test]
    fn a_jump_of_a_cpus_sequence_is_a_loss_of_just_so_many() {
        let got = run(&[header(0, 1, 0, 60, 60), header(1, 1, 0, 61, 61), header(0, 5, 0, 62, 62)]);
        assert_eq!(got, ["1 60 of 60 at 1005", "1 61 of 61 at 1005", "lost 3", "5 62 of 62 at 1005"]);
        assert_eq!(
            run(&[header(0, 3, 0, 60, 60)]),
            ["lost 2", "3 60 of 60 at 1005"],
            "the first ones as well"
        );
    }

    #[test]
    fn a_packet_of_several_records_is_put_together_also_when_cpus_take_turns() {
        let wire = CAPTURED_MAX + 100;
        let got = run(&[
            header(0, 1, 0, CAPTURED_MAX, wire),
            header(1, 1, 0, 60, 60),
            header(0, 1, CAPTURED_MAX, 100, wire),
        ]);
        assert_eq!(got, ["1 60 of 60 at 1005".into(), format!("1 {wire} of {wire} at 1005")]);
    }

    #[test]
    fn a_packet_whose_rest_did_not_come_is_cut_and_says_how_long_it_was() {
        let wire = CAPTURED_MAX * 2 + 100;
        let got = run(&[header(0, 1, 0, CAPTURED_MAX, wire), header(0, 2, 0, 60, 60)]);
        assert_eq!(got, [format!("1 {CAPTURED_MAX} of {wire} at 1005"), "2 60 of 60 at 1005".into()]);
        let skipping = run(&[header(0, 1, 0, CAPTURED_MAX, wire), header(0, 1, CAPTURED_MAX * 2, 100, wire)]);
        assert_eq!(skipping, [format!("1 {CAPTURED_MAX} of {wire} at 1005")]);
        assert_eq!(run(&[header(0, 1, CAPTURED_MAX, 100, wire)]), Vec::<String>::new());
    }
}
