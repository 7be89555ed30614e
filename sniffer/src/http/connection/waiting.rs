//! Events of one direction that wait for the other: they are kept in order, charged to the budget, and taken as soon as
//! what they wait for is there, or the waiting was too long.

use super::{Connection, Outcome, Scope, WAITING_LIMIT, after, borrowed, cost, owned};
use crate::flow::Direction;
use crate::stream::{Data, Event};

impl Connection {
    /// Puts an event behind (or before) those that wait; gives it back where there is no room.
    pub(super) fn enqueue<'a>(
        &mut self,
        direction: Direction,
        event: Event<'a>,
        first: bool,
        scope: &mut Scope<'_>,
    ) -> Result<(), Event<'a>> {
        let octets = cost(&event);
        let side = self.side_mut(direction);
        // What waits already, and only goes back to the front, has its room.
        let full = !first && side.waiting.len() >= WAITING_LIMIT;
        if full || !scope.budget.take(side.waiting_octets, octets, scope.config) {
            return Err(event);
        }
        side.waiting_octets = side.waiting_octets.saturating_add(octets);
        if side.waiting.is_empty() {
            side.waiting_since = scope.now;
        }
        let event = owned(event);
        if first {
            side.waiting.push_front(event);
        } else {
            side.waiting.push_back(event);
        }
        Ok(())
    }

    /// Takes what no longer has to wait.
    pub(super) fn wake(&mut self, scope: &mut Scope<'_>) {
        loop {
            let mut moved = false;
            for direction in [Direction::ToServer, Direction::ToClient] {
                let mut since = self.side(direction).waiting_since;
                while let Some(event) = self.side_mut(direction).waiting.pop_front() {
                    let octets = cost(&event);
                    let side = self.side_mut(direction);
                    side.waiting_octets = side.waiting_octets.saturating_sub(octets);
                    scope.budget.give(octets);
                    if self.process(event, scope) {
                        self.side_mut(direction).waiting_since = since;
                        break;
                    }
                    // The next one is at the front only since now.
                    since = scope.now;
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Must a response whose sender had received `ack` wait for requests? One octet more than was delivered may be the
    /// client's FIN, which takes a sequence number.
    pub(super) fn response_waits(&self, ack: Option<u64>) -> bool {
        !self.forced
            && self.to_server.ended.is_none()
            && self.to_server.waiting.is_empty()
            && (self.to_server.seen || !(self.mid_stream || self.deaf))
            && ack.is_some_and(|ack| ack > self.to_server.position.saturating_add(1))
    }

    /// Must the client's next bytes wait because a switch of protocols may come before them?
    pub(super) fn request_waits(&self) -> bool {
        !self.forced
            && self.to_client.ended.is_none()
            && self.pending.back().is_some_and(|last| last.switches && !last.answered)
    }

    /// Lets the rest of an event wait. Without room for it, it is taken at once: then nothing waits any more.
    pub(super) fn wait(&mut self, data: &Data<'_>, taken: usize, scope: &mut Scope<'_>) -> Outcome {
        let direction = data.direction;
        let rest = after(borrowed(data), taken);
        let side = self.side_mut(direction);
        side.position = side.position.max(rest.offset);
        match self.enqueue(direction, Event::Data(rest), true, scope) {
            Ok(()) => Outcome::Waits,
            Err(_) => {
                self.forced = true;
                let outcome = self.data(after(borrowed(data), taken), scope);
                self.forced = false;
                if outcome { Outcome::Waits } else { Outcome::Done }
            }
        }
    }
}
