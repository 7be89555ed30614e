//! Reads objects again when their files change: written in place, replaced by a rename, or behind a link that a mounted
//! ConfigMap swaps. The kernel tells of changes (inotify); what it cannot tell of (network file systems, targets of links)
//! is found by looking at the files' times and sizes every few seconds.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Error, Read, files, read};

/// How often files are looked at although nothing was told.
const LOOK: Duration = Duration::from_secs(5);
/// A change is read when there was no further one for so long: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// But no later than this after the first.
const LATEST: Duration = Duration::from_secs(1);

/// What became of the files.
#[derive(Debug)]
pub enum Change {
    /// There is a new state, with what was refused in it.
    New(Box<Read>),
    /// They cannot be read now; what was read before stays in force.
    Kept(Error),
}

/// Watches a file or folder.
pub struct Watcher {
    path: PathBuf,
    inotify: Option<Inotify>,
    seen: Vec<Print>,
}

/// A file as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    file: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn prints(path: &Path) -> Vec<Print> {
    // What cannot be listed or is not there prints as nothing, which differs from what was there.
    let files = files(path).unwrap_or_default();
    files
        .into_iter()
        .filter_map(|file| {
            let m = std::fs::metadata(&file).ok()?;
            Some(Print {
                file,
                device: m.dev(),
                inode: m.ino(),
                size: m.size(),
                modified: (m.mtime(), m.mtime_nsec()),
                changed: (m.ctime(), m.ctime_nsec()),
            })
        })
        .collect()
}

impl Watcher {
    /// Reads for the first time, and begins to watch.
    pub fn new(path: &Path) -> Result<(Self, Read), Error> {
        // Before reading: a change in between is then seen as one.
        let seen = prints(path);
        let mut watcher = Self {
            path: path.to_owned(),
            // Without it (no watches left) looking every few seconds remains.
            inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            seen,
        };
        watcher.attend();
        Ok((watcher, read(path)?))
    }

    /// Watches the folders of the files: a rename is told to the folder, not to the file.
    fn attend(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        let parent = |file: &Path| match file.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => PathBuf::from("/"),
        };
        let mut folders = vec![if self.path.is_dir() { self.path.clone() } else { parent(&self.path) }];
        for file in self.seen.iter().map(|p| &p.file) {
            folders.push(parent(file));
            // Where a link leads is another folder.
            folders.extend(std::fs::canonicalize(file).ok().map(|real| parent(&real)));
        }
        folders.sort();
        folders.dedup();
        for folder in folders {
            // A folder already watched is taken again without harm; one that cannot be is looked at.
            let _ = inotify.add_watch(&folder, flags);
        }
    }

    /// Waits for a change, at most for `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<Change> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let told = self.told(left.min(LOOK));
            if told {
                let latest = Instant::now() + LATEST;
                while Instant::now() < latest && self.told(SETTLE) {}
            }
            let now = prints(&self.path);
            if now != self.seen {
                self.seen = now;
                self.attend();
                return Some(match read(&self.path) {
                    Ok(read) => Change::New(Box::new(read)),
                    Err(error) => Change::Kept(error),
                });
            }
            if left.is_zero() {
                return None;
            }
        }
    }

    /// Whether the kernel tells of a change within a time.
    fn told(&self, within: Duration) -> bool {
        let Some(inotify) = &self.inotify else {
            std::thread::sleep(within);
            return false;
        };
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, timeout), Ok(1..)) {
            return false;
        }
        while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        true
    }
}
