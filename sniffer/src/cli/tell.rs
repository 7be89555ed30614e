//! What `read` and `watch` have in common: the options of decoding and keeping, and where exchanges go, one at a time.

use sniffer::filter::Filter;
use sniffer::frame::{Frame, Interface, Loss, Timestamp};
use sniffer::pipeline::{self, Pipeline, Told};
use sniffer::store::{self, Batch, Store};
use sniffer::viewer::Lost;

use super::auditing::Auditing;
use super::memory::Memory;
use super::print::Printer;
use super::serve::Running;
use crate::node::Recorder;

/// How much is kept, in memory and in the store.
#[derive(clap::Args)]
pub(super) struct Keeping {
    /// The store may grow to this size (as 500MiB, 4GiB); beyond it the oldest exchanges go. 0 is no limit.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = super::units::size)]
    store_size: u64,
    /// Exchanges older than this (as 90m, 12h, 30d), counted back from the newest, go from the store. 0 is no limit.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = super::units::nanos)]
    store_age: u64,
    /// How much of each decoded body to keep; what is beyond is hashed and counted.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = super::units::size)]
    keep_body: u64,
    /// How much to hold, over all connections, while segments are missing.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = super::units::size)]
    reassembly_budget: u64,
    #[command(flatten)]
    memory: Memory,
}

impl Keeping {
    /// Of a store that is made if it does not exist.
    pub(super) fn store(&self) -> store::Options {
        store::Options { max_bytes: self.store_size, max_age_nanos: self.store_age, must_exist: false }
    }

    /// The limits of every stage.
    pub(super) fn pipeline(&self) -> pipeline::Config {
        let mut config = pipeline::Config { memory: self.memory.for_flows(), ..pipeline::Config::default() };
        config.stream.budget = usize::try_from(self.reassembly_budget).unwrap_or(usize::MAX);
        config.http.keep_body = usize::try_from(self.keep_body).unwrap_or(usize::MAX);
        config
    }
}

/// Begins to store; browsers are told of what is stored.
pub(super) fn recorder(store: Store, face: Option<&Running>) -> Recorder {
    let publisher = face.map(Running::publisher);
    let rows = move |batch: &Batch| {
        if let Some(publisher) = &publisher {
            publisher.rows(batch.rows());
        }
    };
    Recorder::start(store, rows, |_| {})
}

/// A line on the terminal that says how it goes, and makes way for exchanges that are printed there too.
pub(super) trait Line {
    /// Takes it off the terminal, if it is there.
    fn clear(&self);
}

/// Where exchanges go, one at a time.
pub(super) struct Teller<L> {
    filter: Option<Filter>,
    pub(super) printer: Printer,
    pub(super) recorder: Option<Recorder>,
    pub(super) line: L,
    /// Exchanges that were told.
    pub(super) exchanges: u64,
    /// Of these, what the filter let through.
    pub(super) matched: u64,
    pub(super) lost: Lost,
    /// What isolated pods try, where there are policies, and what was watched.
    pub(super) auditing: Auditing,
    /// There is reason to go on: somebody reads what is printed, and the store did not fail.
    pub(super) go_on: bool,
}

impl<L: Line> Teller<L> {
    pub(super) fn new(
        filter: Option<Filter>,
        printer: Printer,
        recorder: Option<Recorder>,
        auditing: Auditing,
        line: L,
    ) -> Self {
        Self {
            filter,
            printer,
            recorder,
            line,
            exchanges: 0,
            matched: 0,
            lost: Lost::default(),
            auditing,
            go_on: true,
        }
    }

    /// A frame: through the pipeline, and to the audit.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, pipeline: &mut Pipeline) {
        self.auditing.frame(frame);
        pipeline.push(frame, self);
    }

    /// The source lost frames.
    pub(super) fn loss(&mut self, loss: &Loss, pipeline: &mut Pipeline) {
        self.lost.source(loss, pipeline.interface_name(loss.interface));
        pipeline.lost(loss);
        self.auditing.loss(loss);
    }

    /// An interface has a name, or no longer.
    pub(super) fn name(&mut self, interface: Interface, name: Option<&str>, pipeline: &mut Pipeline) {
        match interface {
            Interface::Declared(number) => pipeline.name_interface(number, name),
            Interface::Index(index) => pipeline.name_index(index, name),
            Interface::Unknown => {}
        }
        if let Some(name) = name {
            self.auditing.name(interface, name);
        }
    }

    /// The source has ended, in order or not: what is unfinished is told, what the audit waits for is settled, and its
    /// session ends, at `now` or with the last frame.
    pub(super) fn finish(&mut self, pipeline: &mut Pipeline, now: Option<Timestamp>, in_order: bool) {
        pipeline.finish(self);
        let Self { auditing, printer, line, recorder, .. } = self;
        let live = auditing.is_live();
        let stored = auditing.finish(recorder.as_ref(), now, in_order, |finding| {
            if live {
                line.clear();
                printer.finding(finding);
            }
        });
        self.go_on &= stored;
    }

    /// What the audit has goes to the store, once a second; all until `now` was looked at, or until the last frame.
    pub(super) fn beat(&mut self, now: Option<Timestamp>) {
        self.go_on &= self.auditing.beat(self.recorder.as_ref(), now);
    }

    fn tell(&mut self, one: Told) {
        self.exchanges += 1;
        self.lost.exchange(&one.exchange);
        self.auditing.exchange(&one.exchange);
        if self.filter.as_ref().is_some_and(|f| !f.matches(&one.exchange, &one.reading)) {
            return;
        }
        self.matched += 1;
        if self.printer.shares_terminal() {
            self.line.clear();
        }
        self.printer.print(&one);
        match &self.recorder {
            Some(recorder) => self.go_on &= recorder.push(&one),
            None => self.go_on &= !self.printer.nobody_reads(),
        }
    }
}

impl<L: Line> Extend<Told> for Teller<L> {
    fn extend<I: IntoIterator<Item = Told>>(&mut self, told: I) {
        for one in told {
            self.tell(one);
        }
    }
}
