//! What is copied: the values that userspace writes into the selection maps, and the kernel side reads.

/// The one value of [`crate::MAP_SELECT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Selection {
    /// Which of the [`flag`]s are set.
    pub flags: u32,
    /// [`PortPolicy`] of a TCP port that [`crate::MAP_PORTS`] says nothing of.
    pub other_ports: u32,
    /// At most this many octets of a packet are copied.
    pub snap_length: u32,
    /// The reader is woken once so many octets wait in the ring buffer; before that it looks by itself. Waking it for
    /// each packet costs a quarter of the requests per second.
    pub wake_octets: u32,
}

/// Words of [`Selection`] as userspace writes it.
pub const SELECTION_WORDS: usize = 4;

const _: () = assert!(core::mem::size_of::<Selection>() == SELECTION_WORDS * 4);

impl Selection {
    /// The map's words.
    pub fn to_words(self) -> [u32; SELECTION_WORDS] {
        [self.flags, self.other_ports, self.snap_length, self.wake_octets]
    }
}

/// What [`Selection::flags`] can hold.
pub mod flag {
    /// TCP is copied as its ports say.
    pub const TCP: u32 = 1;
    /// UDP from and to port 53 is copied.
    pub const DNS: u32 = 2;
    /// Only packets from or to an address of [`crate::MAP_ADDRESSES`] are copied.
    pub const ADDRESSES: u32 = 4;
    /// [`crate::MAP_IGNORED`] has entries.
    pub const IGNORED: u32 = 8;
}

/// What is copied of the connections of a TCP port. Where the two ports of a packet differ, the one with the higher
/// number decides: what is wanted is wanted, whatever the other end's port happens to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum PortPolicy {
    /// As [`Selection::other_ports`] says.
    Other = 0,
    /// Nothing.
    Nothing = 1,
    /// The TLS ClientHello alone, which names the server.
    ClientHello = 2,
    /// Everything.
    Everything = 3,
}

/// Ports in one word of [`crate::MAP_PORTS`].
pub const PORTS_IN_WORD: u32 = 32;
/// Words of [`crate::MAP_PORTS`].
pub const PORT_WORDS: u32 = 65_536 / PORTS_IN_WORD;

/// Sets a port's policy in the words of [`crate::MAP_PORTS`].
pub fn set_port(words: &mut [u64], port: u16, policy: PortPolicy) {
    let port = u32::from(port);
    if let Some(word) = words.get_mut((port / PORTS_IN_WORD) as usize) {
        let shift = port % PORTS_IN_WORD * 2;
        *word = *word & !(3 << shift) | (policy as u64) << shift;
    }
}

/// A port's policy in its word of [`crate::MAP_PORTS`], as a number of [`PortPolicy`].
#[inline]
pub const fn port_in(word: u64, port: u16) -> u32 {
    (word >> (port as u32 % PORTS_IN_WORD * 2) & 3) as u32
}

/// A value of [`crate::MAP_TRANSLATED`]: this sight of the connection is not copied, the other is.
pub const SIGHT_SKIPPED: u32 = 1;
/// A value of [`crate::MAP_TRANSLATED`]: this sight of the connection is copied.
pub const SIGHT_TAKEN: u32 = 2;
