//! The thread that follows the node's interfaces: a program at each pod's veth as soon as it is there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{EnforceError, State, lock};
use crate::links::{Change, LISTING, Links};

/// How often the list is asked for again, should the kernel ever have told less than all.
const LIST: Duration = Duration::from_secs(30);
/// How often the node's own addresses are looked at.
const OWN: Duration = Duration::from_secs(2);
/// How long a change is waited for before other things are done.
const WAIT: Duration = Duration::from_millis(10);

pub(super) struct Follower {
    state: Arc<Mutex<State>>,
    links: Links,
    listed: BTreeSet<u32>,
}

impl Follower {
    /// Subscribes, and attaches to all that is there.
    pub(super) fn start(state: Arc<Mutex<State>>) -> Result<Self, EnforceError> {
        let links = Links::open().map_err(EnforceError::Links)?;
        let mut follower = Self { state, links, listed: BTreeSet::new() };
        let mut changes = Vec::new();
        while !changes.contains(&Change::Listed) {
            let before = changes.len();
            follower.links.next(LISTING, &mut changes).map_err(EnforceError::Links)?;
            if changes.len() == before {
                return Err(EnforceError::Links(std::io::ErrorKind::TimedOut.into()));
            }
        }
        changes.into_iter().for_each(|change| follower.take(change));
        lock(&follower.state).tick();
        Ok(follower)
    }

    pub(super) fn run(mut self, stop: &AtomicBool) {
        let mut changes = Vec::new();
        let (mut listed, mut looked) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.links.next(WAIT, &mut changes) {
                tracing::warn!("follow interfaces: {error}");
                std::thread::sleep(WAIT);
            }
            changes.drain(..).for_each(|change| self.take(change));
            if listed.elapsed() >= LIST {
                listed = Instant::now();
                self.relist();
            }
            let mut state = lock(&self.state);
            if looked.elapsed() >= OWN {
                looked = Instant::now();
                state.look_at_own();
            }
            state.tick();
        }
    }

    fn relist(&mut self) {
        self.listed.clear();
        if let Err(error) = self.links.ask() {
            tracing::warn!("list interfaces: {error}");
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Present(link) => {
                self.listed.insert(link.index);
                lock(&self.state).present(link);
            }
            Change::Gone(index) => lock(&self.state).gone(index),
            Change::Listed => {
                let mut state = lock(&self.state);
                state.listed(&self.listed);
                self.listed.clear();
                // Ports may have been listed before their bridge, whose name they are known by.
                let all: Vec<_> = state.links.values().cloned().collect();
                all.into_iter().for_each(|link| state.present(link));
            }
            Change::Missed => self.relist(),
        }
    }
}
