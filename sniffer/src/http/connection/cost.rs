//! What a flow takes beside what the budget for bodies was charged for. One look costs a bounded number of steps: where
//! much is pending, it is counted anew only when that has changed by a part of it, or now and then.

use super::partial::PartialHead;
use super::{Connection, GapMark, Pending, Place, Side, Speaks};
use crate::http::cost::{ALLOCATION, exchange, vector};
use crate::stream::Event;

/// So many exchanges are counted at each event.
const FEW: usize = 4;

impl Connection {
    /// Brings `all`, the cost of all flows, up to what this one costs now.
    pub(in crate::http) fn account(&mut self, all: &mut usize) {
        let many = match &self.speaks {
            Speaks::H2(h2) => h2.open_streams(),
            _ => self.pending.len(),
        };
        self.events_uncounted = self.events_uncounted.saturating_add(1);
        // One event can add hundreds.
        let changed = many.abs_diff(self.counted) > self.counted / FEW;
        if many <= FEW || changed || self.events_uncounted >= many / FEW {
            self.events_uncounted = 0;
            self.counted = many;
            let cost = self.cost();
            *all = all.saturating_sub(self.accounted).saturating_add(cost);
            self.accounted = cost;
        }
    }

    /// Takes this flow out of the cost of all flows.
    pub(in crate::http) fn account_none(&mut self, all: &mut usize) {
        *all = all.saturating_sub(std::mem::take(&mut self.accounted));
    }

    fn cost(&self) -> usize {
        let own = size_of::<Self>().saturating_add(ALLOCATION);
        let own = own.saturating_add(vector::<Pending>(self.pending.capacity()));
        // Between two exchanges, as most connections are most of the time.
        let idle = self.pending.is_empty()
            && self.lone.is_none()
            && self.doubt.is_none()
            && matches!(self.speaks, Speaks::Unknown | Speaks::Http1 | Speaks::Other)
            && self.to_server.holds_nothing()
            && self.to_client.holds_nothing();
        if idle {
            return own;
        }
        let pending: usize = self.pending.iter().map(Pending::cost).sum();
        let speaks = match &self.speaks {
            Speaks::Unknown | Speaks::Http1 | Speaks::Other => 0,
            Speaks::H2(h2) => h2.cost(),
            Speaks::WebSocket(web) => {
                size_of_val(&**web).saturating_add(ALLOCATION).saturating_add(exchange(&web.exchange))
            }
        };
        [
            own,
            self.to_server.cost(),
            self.to_client.cost(),
            pending,
            self.lone.as_deref().map_or(0, exchange),
            self.doubt.as_deref().map_or(0, |doubt| size_of_val(doubt).saturating_add(doubt.pending.cost())),
            speaks,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Side {
    fn holds_nothing(&self) -> bool {
        matches!(self.place, Place::Start | Place::Hunting)
            && self.holes.capacity() == 0
            && self.waiting.capacity() == 0
    }

    fn cost(&self) -> usize {
        let place = match &self.place {
            Place::Start | Place::Hunting => 0,
            // Its octets are charged to the budget.
            Place::Head(_) => size_of::<PartialHead>().saturating_add(ALLOCATION),
            Place::Body(receiving) => receiving.cost(),
        };
        place
            .saturating_add(vector::<GapMark>(self.holes.capacity()))
            .saturating_add(vector::<Event<'_>>(self.waiting.capacity()))
    }
}

impl Pending {
    fn cost(&self) -> usize {
        exchange(&self.exchange)
    }
}
