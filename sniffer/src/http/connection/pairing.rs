//! Which request does a response answer? By order as long as nothing was missed; behind a hole only by what each side had
//! received of the other when it spoke. A pair that could still be wrong is told once the client has gone on.

use super::{Answering, Begin, Connection, Pending, Scope, add_gap, odd, tell};
use crate::flow::Direction;
use crate::frame::Timestamp;
use crate::http::{AnomalyKind, Exchange};
use crate::stream::EndKind;

/// A whole exchange whose request came after a lost one. If the client does not wait for answers, the response may be
/// that of the lost request; then another response follows before another request does.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) pending: Pending,
    pub(super) answer: Begin,
    /// Where the response ended.
    pub(super) end: Option<u64>,
    /// The client went on, and neither said that it had waited nor that it had not.
    pub(super) undecided: bool,
    pub(super) since: Timestamp,
}

impl Doubt {
    /// Whether a server that had received so much had heard no more of the client than when it answered.
    pub(super) fn is_all_heard(&self, ack: u64) -> bool {
        ack <= self.answer.ack.unwrap_or(0).max(self.pending.end)
    }
}

impl Connection {
    /// Which request does the response that begins here answer?
    pub(super) fn pair(&mut self, begin: Begin, version: (u8, u8), scope: &mut Scope<'_>) -> Answering {
        // Unless its sender has heard more of the client than the doubtful request: then that is what it answers.
        let same =
            self.doubt.as_ref().is_some_and(|doubt| begin.ack.is_none_or(|ack| doubt.is_all_heard(ack)));
        if same {
            self.disbelieve(scope);
        } else {
            self.believe(scope);
        }
        // The request at hand is not over and has its response: if it was doubtful, it was not its own.
        if self.pending.front().is_some_and(|front| front.answered && front.doubtful)
            && let (Some(mut front), Some(answer)) = (self.pending.pop_front(), self.answer_begin)
        {
            tell(self.part(&mut front, answer), scope);
            self.pending.push_front(front);
            self.pipelines = true;
        }
        let received =
            |pending: &Pending| !pending.answered && begin.ack.is_none_or(|ack| pending.start < ack);
        let sure_order = !self.uncertain && self.pending.front().is_some_and(|front| !front.after_loss);
        if sure_order {
            if self.pending.front().is_some_and(received) {
                return Answering::Front;
            }
        } else {
            let sent_before = |pending: &Pending| pending.ack.is_none_or(|ack| ack <= begin.offset);
            let candidate =
                self.pending.iter().rposition(|pending| received(pending) && sent_before(pending));
            if let Some(pending) = candidate.and_then(|at| self.pending.get(at)) {
                self.pipelines |= self.did_not_wait(pending, begin);
            }
            if let Some(at) = candidate
                && self.pending.get(at).is_some_and(|pending| self.is_sure(pending, at, begin))
            {
                for _ in 0..at {
                    let Some(mut missed) = self.pending.pop_front() else { break };
                    for hole in &self.to_client.holes {
                        add_gap(&mut missed.exchange.gaps, *hole);
                    }
                    missed.tell(scope);
                }
                if let Some(front) = self.pending.front_mut() {
                    front.doubtful = std::mem::take(&mut front.after_loss);
                    let start = front.start;
                    self.to_server.holes.retain(|hole| hole.offset > start);
                }
                self.to_client.holes.clear();
                self.uncertain = false;
                return Answering::Front;
            }
        }
        // Alone, then.
        let mut exchange = self.exchange(Direction::ToClient, begin, version);
        let missed = self.to_server.lost || !self.to_server.holes.is_empty() || self.mid_stream;
        if !self.uncertain && !missed && !self.forced {
            odd(&mut exchange, AnomalyKind::UnsolicitedResponse, "");
        }
        for hole in &self.to_server.holes {
            if begin.ack.is_none_or(|ack| hole.offset < ack) {
                add_gap(&mut exchange.gaps, *hole);
            }
        }
        self.uncertain |= !sure_order && !self.pending.is_empty();
        self.lone = Some(exchange);
        Answering::Lone
    }

    /// Does the client send requests before it has the answers, judged by this one, behind a hole, and by the response
    /// that begins here?
    pub(super) fn did_not_wait(&self, pending: &Pending, begin: Begin) -> bool {
        let Some(had) = pending.ack else { return false };
        // After the last response its sender heard more of the client, of which something is missing. So there was a
        // request, and its answer would have to lie between that response and what the client had received when it
        // sent this one. But there is nothing.
        if let (Some(answered), Some(heard)) = (self.answered_to, self.answer_ack)
            && had <= answered
            && self
                .to_server
                .holes
                .iter()
                .any(|hole| hole.offset < pending.start && hole.offset.saturating_add(hole.length) > heard)
        {
            return true;
        }
        // The client said more after this request, and had nothing of the answer yet; more than an empty line or FIN.
        let cut = pending.exchange.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::CutByGap);
        had == begin.offset && !cut && begin.ack.is_some_and(|ack| ack > pending.end.saturating_add(4))
    }

    /// Behind a hole: does the response that begins here surely answer that request, the last that its sender had
    /// received? The module's text says why.
    pub(super) fn is_sure(&self, pending: &Pending, at: usize, begin: Begin) -> bool {
        if self.pipelines {
            return false;
        }
        match (pending.ack, begin.ack) {
            (Some(had), _) if had == begin.offset => true,
            (_, Some(ack)) => ack <= pending.end,
            // Nothing is known: only the order is left, and only where there is nothing else.
            (None, None) => at == 0 && self.pending.len() == 1 && self.to_client.holes.is_empty(),
            (Some(_), None) => false,
        }
    }

    /// Tells what is finished, in order.
    pub(super) fn settle(&mut self, scope: &mut Scope<'_>) {
        while let Some(front) = self.pending.front() {
            let unanswered = match self.to_client.ended {
                Some(kind) if !front.answered && self.answering != Answering::Front => Some(kind),
                _ => None,
            };
            if !front.asked || !(front.answered || unanswered.is_some()) {
                return;
            }
            let Some(mut front) = self.pending.pop_front() else { return };
            if let Some(kind) = unanswered {
                for hole in &self.to_client.holes {
                    add_gap(&mut front.exchange.gaps, *hole);
                }
                let (anomaly, detail) = match kind {
                    EndKind::Fin => (AnomalyKind::NoResponse, "the connection was closed"),
                    EndKind::Reset => (AnomalyKind::NoResponse, "the connection was reset"),
                    EndKind::Abandoned => (AnomalyKind::NoResponse, "the connection fell silent"),
                    EndKind::CaptureEnd => (AnomalyKind::CutByCaptureEnd, "no response until then"),
                };
                odd(&mut front.exchange, anomaly, detail);
            }
            if front.doubtful
                && front.answered
                && let Some(answer) = self.answer_begin
            {
                self.believe(scope);
                front.hold(Direction::ToClient, scope);
                let end = self.answered_to;
                if end.is_none() && self.to_client.ended.is_none() {
                    // A hole hides where it ended, and what else may have come.
                    let alone = self.part(&mut front, answer);
                    front.tell(scope);
                    tell(alone, scope);
                    continue;
                }
                self.doubt =
                    Some(Box::new(Doubt { pending: front, answer, end, undecided: false, since: scope.now }));
                // The client may have gone on already.
                if let Some(next) = self.pending.front() {
                    let (had, after_loss) = (next.ack, next.after_loss);
                    self.client_goes_on(had, after_loss, scope);
                }
                continue;
            }
            front.tell(scope);
        }
    }

    /// The client began another request, having received so much. If that is up to the end of the doubtful response, it
    /// waited for it; if it is less, it does not wait for answers; if it is more, there was a further response, which
    /// answered a request that was lost in between, or else this one.
    pub(super) fn client_goes_on(&mut self, had: Option<u64>, after_loss: bool, scope: &mut Scope<'_>) {
        let Some(doubt) = &mut self.doubt else { return };
        match (had, doubt.end) {
            _ if doubt.undecided => self.believe(scope),
            (Some(had), Some(end)) if had > end && after_loss => doubt.undecided = true,
            (Some(had), Some(end)) if had != end => self.disbelieve(scope),
            _ => self.believe(scope),
        }
    }

    /// The doubtful pair is one: the client went on after its response, or the connection did not go on at all.
    pub(super) fn believe(&mut self, scope: &mut Scope<'_>) {
        if let Some(doubt) = self.doubt.take() {
            doubt.pending.tell(scope);
        }
    }

    /// The doubtful pair is none: another response came before another request. Each is told alone.
    pub(super) fn disbelieve(&mut self, scope: &mut Scope<'_>) {
        let Some(doubt) = self.doubt.take() else { return };
        let Doubt { mut pending, answer, .. } = *doubt;
        let alone = self.part(&mut pending, answer);
        self.pipelines = true;
        pending.tell(scope);
        tell(alone, scope);
    }

    /// Takes a response away from a request that it does not answer.
    pub(super) fn part(&mut self, pending: &mut Pending, answer: Begin) -> Box<Exchange> {
        let version = pending.exchange.response.as_ref().map_or((1, 1), |response| response.message.version);
        let mut alone = self.exchange(Direction::ToClient, answer, version);
        alone.response = pending.exchange.response.take();
        alone.interim = std::mem::take(&mut pending.exchange.interim);
        alone.anomalies = pending.exchange.anomalies.clone();
        alone.gaps = pending.exchange.gaps.clone();
        (pending.answered, pending.doubtful) = (false, false);
        self.uncertain = true;
        alone
    }
}
