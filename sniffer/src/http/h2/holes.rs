//! What a hole does to a connection: inside a payload of known length it is stepped over; anywhere else the direction is
//! out of step, its header table is lost, and every open stream is touched.

use super::frame;
use super::{
    BETWEEN, Begin, Block, Content, Cut, GapMark, H2, Head, Now, PATIENCE, Place, Whole, cut_fragment,
};
use crate::flow::Direction;
use crate::http::AnomalyKind;

impl H2 {
    /// What a hole takes with it: part of a payload where it lies inside one, and more where it does not.
    pub(super) fn miss(&mut self, now: &mut Now<'_>, mark: GapMark) {
        let side = self.side_mut(now);
        let left = match &side.place {
            Place::Hunting => {
                side.missed_octets = side.missed_octets.saturating_add(mark.length);
                return;
            }
            Place::Preface(_) | Place::Head { .. } => None,
            Place::Data(content) => Some(content.left),
            Place::Whole(whole) => {
                let have = u32::try_from(whole.held.octets.len()).unwrap_or(u32::MAX);
                Some(whole.head.length.saturating_sub(have))
            }
            Place::Skip(left) => Some(*left),
        };
        let Some(left) = left else { return self.tear(now, mark) };
        let inside = u32::try_from(mark.length).unwrap_or(u32::MAX).min(left);
        match std::mem::replace(&mut side.place, BETWEEN) {
            Place::Data(content) => self.content_missed(now, content, inside, mark),
            Place::Whole(whole) => {
                let after = left.saturating_sub(inside);
                if after > 0 {
                    self.side_mut(now).place = Place::Skip(after);
                }
                let Whole { head, begin, held } = *whole;
                let octets = held.release(now.budget);
                match head.kind {
                    frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                        let cut = Cut { why: AnomalyKind::CutByGap, hole: Some(mark) };
                        self.broken(now, head, begin, cut_fragment(&head, &octets), cut);
                    }
                    frame::RST_STREAM => self.reset(now, head.stream, u32::MAX),
                    frame::SETTINGS => self.side_mut(now).max_frame = frame::BELIEVABLE_MAX_FRAME,
                    _ => {}
                }
            }
            Place::Skip(_) if left > inside => {
                self.side_mut(now).place = Place::Skip(left.saturating_sub(inside));
            }
            _ => {}
        }
        if mark.length > u64::from(inside) {
            self.tear(now, mark);
        }
    }

    /// Octets of DATA are missing.
    fn content_missed(&mut self, now: &mut Now<'_>, mut content: Content, inside: u32, mark: GapMark) {
        // Where the padding's length itself is missing, the rest may be either; it is taken for content.
        let padding = content.padding.unwrap_or(0);
        let useful = content.left.saturating_sub(padding).min(inside);
        content.padding = Some(padding);
        content.left = content.left.saturating_sub(inside);
        if let Some(stream) = self.streams.get_mut(&content.stream) {
            if useful > 0 {
                stream.gap(now.direction, now.time, u64::from(useful), now.config, now.budget);
            }
            stream.mark(mark);
        }
        self.side_mut(now).place = Place::Data(content);
        if content.left == 0 {
            self.content_ends(now);
        }
    }

    /// Frames of unknown number are missing: out of step, the header table is lost, and every open stream is touched.
    fn tear(&mut self, now: &mut Now<'_>, mark: GapMark) {
        self.drop_block(now, AnomalyKind::CutByGap);
        let side = self.side_mut(now);
        side.place = Place::Hunting;
        side.missed = true;
        side.missed_octets = mark.length;
        side.hpack.lose();
        side.max_frame = side.max_frame.max(frame::BELIEVABLE_MAX_FRAME);
        if now.direction == Direction::ToServer {
            // Streams may have been opened in the hole.
            self.known_from = u32::MAX;
        }
        self.overdue.get_or_insert(now.time.plus_nanos(PATIENCE));
        for stream in self.streams.values_mut().filter(|stream| stream.open(now.direction)) {
            stream.mark(mark);
            stream.tear(now.direction, now.time, now.config, now.budget);
        }
    }

    /// Tells the streams that a hole touched and that were not heard of since.
    pub(super) fn give_up_torn(&mut self, now: &mut Now<'_>) {
        self.overdue = None;
        let mut due = Vec::new();
        for (number, stream) in &self.streams {
            let Some(heard) = stream.touched() else { continue };
            let overdue = heard.plus_nanos(PATIENCE);
            if now.time >= overdue {
                due.push(*number);
            } else {
                self.overdue = Some(self.overdue.map_or(overdue, |earliest| earliest.min(overdue)));
            }
        }
        for number in due {
            if let Some(mut stream) = self.streams.remove(&number) {
                stream.name(AnomalyKind::CutByGap, "not heard of after a hole");
                self.tell(number, stream, now.config, now.budget, now.out);
            }
        }
    }

    /// Gives up a frame that is being collected; the rest of it is skipped.
    pub(super) fn drop_frame(&mut self, now: &mut Now<'_>, why: AnomalyKind) {
        let side = self.side_mut(now);
        let Place::Whole(whole) = &mut side.place else { return self.drop_block(now, why) };
        let have = u32::try_from(whole.held.octets.len()).unwrap_or(u32::MAX);
        let left = whole.head.length.saturating_sub(have);
        if let Place::Whole(whole) = std::mem::replace(&mut side.place, Place::Skip(left)) {
            let Whole { head, begin, held } = *whole;
            let octets = held.release(now.budget);
            if matches!(head.kind, frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION) {
                self.broken(now, head, begin, cut_fragment(&head, &octets), Cut { why, hole: None });
            }
        }
        self.drop_block(now, why);
    }

    /// Gives up a header block that is not complete.
    pub(super) fn drop_block(&mut self, now: &mut Now<'_>, why: AnomalyKind) {
        if let Some(block) = self.side_mut(now).block.take() {
            let Block { head, begin, held, .. } = *block;
            let octets = held.release(now.budget);
            self.broken(now, head, begin, &octets, Cut { why, hole: None });
        }
    }

    /// A header block of which only the beginning is there: that much is told, and the table is lost.
    pub(super) fn broken(&mut self, now: &mut Now<'_>, head: Head, begin: Begin, fragment: &[u8], cut: Cut) {
        if head.kind == frame::CONTINUATION {
            // The block that it continues is the one that is broken.
            if let Some(block) = self.side_mut(now).block.take() {
                let Block { head, begin, held, .. } = *block;
                let octets = held.release(now.budget);
                return self.broken(now, head, begin, &octets, cut);
            }
        } else if head.kind == frame::HEADERS {
            self.block(now, head, begin, None, fragment, Some(cut));
        }
        self.side_mut(now).hpack.lose();
    }
}
