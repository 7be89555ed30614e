//! The following thread: attaches to interfaces as they are born, cleans up after those that go, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attach::Programs;
use super::queue::{Batch, Queue};
use super::{Interfaces, LiveError, Shared, Watched};
use crate::links::{Change, LISTING, Link, Links, ways_out};

/// How often the counters are read.
const COUNT: Duration = Duration::from_millis(250);
/// How often the list is asked for again, should the kernel ever have told less than all.
const LIST: Duration = Duration::from_secs(30);
/// A gone interface's name is kept so long: exchanges that it saw are still to be told.
const FORGET: Duration = Duration::from_secs(120);

pub(super) struct Follower {
    programs: Programs,
    interfaces: Interfaces,
    links: Links,
    known: BTreeMap<u32, Link>,
    /// Indexes that the list named which is being read.
    listed: BTreeSet<u32>,
    ways_out: Vec<String>,
    gone: Vec<(Instant, u32)>,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Follower {
    /// Subscribes, and attaches to all that is there.
    pub(super) fn start(
        programs: Programs,
        interfaces: Interfaces,
        queue: Arc<Queue>,
        shared: &Arc<Shared>,
    ) -> Result<Self, LiveError> {
        let links = Links::open().map_err(LiveError::Links)?;
        let mut follower = Self {
            programs,
            interfaces,
            links,
            known: BTreeMap::new(),
            listed: BTreeSet::new(),
            ways_out: ways_out(),
            gone: Vec::new(),
            queue,
            shared: Arc::clone(shared),
        };
        // The list comes in several messages; its end is told. It is read whole before anything is attached, which takes
        // two grace periods of RCU for each interface: some seconds where there are hundreds.
        let mut changes = Vec::new();
        while !changes.contains(&Change::Listed) {
            let before = changes.len();
            follower.links.next(LISTING, &mut changes).map_err(LiveError::Links)?;
            if changes.len() == before {
                return Err(LiveError::Links(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            }
        }
        // What is refused for all interfaces alike is an error of the start, not of an interface.
        changes.into_iter().try_for_each(|change| follower.take(change))?;
        follower.count();
        Ok(follower)
    }

    pub(super) fn run(mut self) {
        let mut changes = Vec::new();
        let (mut counted, mut listed) = (Instant::now(), Instant::now());
        while !self.shared.stopped() {
            // Short, so that the end is not waited for; a change ends the wait at once.
            if let Err(error) = self.links.next(Duration::from_millis(50), &mut changes) {
                tracing::warn!("follow interfaces: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
            for change in changes.drain(..) {
                if let Err(error) = self.take(change) {
                    tracing::warn!("{error}");
                }
            }
            if listed.elapsed() >= LIST {
                listed = Instant::now();
                self.relist();
            }
            if counted.elapsed() >= COUNT {
                counted = Instant::now();
                self.count();
                self.forget();
            }
        }
        let last = self.programs.detach_all();
        let mut snapshot = self.shared.snapshot();
        for watched in &mut snapshot.interfaces {
            if let Some(counters) = last.get(&watched.index) {
                watched.counters = *counters;
            }
        }
    }

    fn relist(&mut self) {
        self.ways_out = ways_out();
        self.listed.clear();
        if let Err(error) = self.links.ask() {
            tracing::warn!("list interfaces: {error}");
        }
    }

    fn take(&mut self, change: Change) -> Result<(), LiveError> {
        match change {
            Change::Present(link) => {
                self.listed.insert(link.index);
                self.present(link)
            }
            Change::Gone(index) => {
                self.lose(index);
                Ok(())
            }
            Change::Listed => {
                let gone: Vec<u32> =
                    self.known.keys().copied().filter(|index| !self.listed.contains(index)).collect();
                gone.into_iter().for_each(|index| self.lose(index));
                self.listed.clear();
                // Ports may have been listed before their bridge, whose name they are chosen by.
                let all: Vec<Link> = self.known.values().cloned().collect();
                all.into_iter().try_for_each(|link| self.present(link))
            }
            Change::Missed => {
                self.relist();
                Ok(())
            }
        }
    }

    fn present(&mut self, link: Link) -> Result<(), LiveError> {
        let bridge = link.bridge.and_then(|index| self.known.get(&index)).map(|b| b.name.clone());
        let way_out = self.ways_out.contains(&link.name);
        let wanted = self.interfaces.takes(&link, bridge.as_deref(), way_out);
        let (index, name) = (link.index, link.name.clone());
        let before = self.known.insert(index, link.clone());
        if self.programs.attached(index) {
            if !wanted {
                self.unwatch(index);
                return Ok(());
            }
            if before.is_some_and(|b| b.name != name) {
                self.rename(index, Some(&name));
            }
            return self.programs.set_bridge(index, link.bridge);
        }
        if !wanted {
            return Ok(());
        }
        match self.programs.attach(index, &name, link.bridge) {
            Ok(()) => {
                self.rename(index, Some(&name));
                self.shared.snapshot().failed.remove(&name);
                let others = super::attach::by_tcx(&name).into_iter().filter(|a| !a.ours).map(|a| a.name);
                let others: Vec<String> = others.collect();
                if !others.is_empty() {
                    tracing::debug!("{name} also has {}", others.join(", "));
                }
                Ok(())
            }
            Err(error @ LiveError::NotPermitted { .. }) => Err(error),
            Err(error) => {
                // It may have gone again meanwhile; then its end is told next.
                let text = error.to_string();
                let new = self.shared.snapshot().failed.insert(name, text).is_none();
                if new {
                    tracing::warn!("{error}");
                }
                Ok(())
            }
        }
    }

    fn lose(&mut self, index: u32) {
        let Some(link) = self.known.remove(&index) else { return };
        self.shared.snapshot().failed.remove(&link.name);
        if self.programs.attached(index) {
            self.unwatch(index);
        }
    }

    fn unwatch(&mut self, index: u32) {
        let counters = self.programs.detach(index);
        self.gone.push((Instant::now(), index));
        let mut snapshot = self.shared.snapshot();
        snapshot.gone = snapshot.gone.plus(counters);
        snapshot.gone_interfaces += 1;
        snapshot.interfaces.retain(|watched| watched.index != index);
    }

    fn rename(&self, index: u32, name: Option<&str>) {
        let mut batch = Batch::default();
        batch.name(index, name);
        self.queue.push(batch);
    }

    /// Names of interfaces that are gone for good.
    fn forget(&mut self) {
        let now = Instant::now();
        let old = |(at, _): &(Instant, u32)| now.duration_since(*at) >= FORGET;
        let forgotten: Vec<u32> = self.gone.iter().filter(|g| old(g)).map(|(_, index)| *index).collect();
        self.gone.retain(|g| !old(g));
        for index in forgotten {
            if !self.known.contains_key(&index) {
                self.rename(index, None);
            }
        }
    }

    fn count(&mut self) {
        let watched: Vec<Watched> = self
            .known
            .values()
            .filter(|link| self.programs.attached(link.index))
            .map(|link| Watched {
                index: link.index,
                name: link.name.clone(),
                by: self.programs.attached_by(link.index),
                counters: self.programs.counted(link.index),
            })
            .collect();
        self.shared.snapshot().interfaces = watched;
    }
}
