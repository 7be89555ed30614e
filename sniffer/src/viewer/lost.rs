//! What the capture lost, for the banner: how much, where, and between when. Losses that the source tells and exchanges
//! with gaps come in, a summary of bounded size goes out.

use serde::Serialize;

use crate::frame::{Loss, Timestamp};
use crate::http::Exchange;

/// Interfaces that are told apart.
const INTERFACES: usize = 16;

/// What was lost so far.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// Frames that the source says it lost.
    pub frames: u64,
    /// Exchanges that a gap touches.
    pub exchanges: u64,
    /// The first and the last time that something was found lost.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Where, as far as it is known; the first few.
    pub interfaces: Vec<LostAt>,
}

/// What was lost at one interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LostAt {
    /// Its name; `None` where the capture has none.
    pub name: Option<Box<str>>,
    /// Frames that the source says it lost there.
    pub frames: u64,
    /// Exchanges seen there that a gap touches.
    pub exchanges: u64,
}

impl Lost {
    /// The source lost frames at the interface of that name.
    pub fn source(&mut self, loss: &Loss, interface: Option<&str>) {
        self.frames = self.frames.saturating_add(loss.frames);
        self.reach(loss.time, loss.time);
        if let Some(at) = self.at(interface) {
            at.frames = at.frames.saturating_add(loss.frames);
        }
    }

    /// An exchange ended, with or without gaps.
    pub fn exchange(&mut self, exchange: &Exchange) {
        if exchange.gaps.is_empty() {
            return;
        }
        self.exchanges = self.exchanges.saturating_add(1);
        self.reach(exchange.started, exchange.ended);
        if let Some(at) = self.at(exchange.interface_name.as_deref()) {
            at.exchanges = at.exchanges.saturating_add(1);
        }
    }

    fn reach(&mut self, from: Timestamp, to: Timestamp) {
        let (first, last) = self.span.unwrap_or((from, to));
        self.span = Some((first.min(from), last.max(to)));
    }

    fn at(&mut self, name: Option<&str>) -> Option<&mut LostAt> {
        let place = self.interfaces.iter().position(|at| at.name.as_deref() == name);
        match place {
            Some(place) => self.interfaces.get_mut(place),
            None if self.interfaces.len() < INTERFACES => {
                self.interfaces.push(LostAt { name: name.map(Into::into), frames: 0, exchanges: 0 });
                self.interfaces.last_mut()
            }
            None => None,
        }
    }
}
