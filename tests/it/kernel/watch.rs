//! `fedisniff watch` at work on a node, and what it told.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::Node;

/// Longer than anything takes on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The running program; killed at the end.
pub(super) struct Watch {
    child: Child,
    exchanges: Arc<Mutex<Vec<Value>>>,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _home: tempfile::TempDir,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Seen {
    /// The lines of `--json`.
    pub(super) exchanges: Vec<Value>,
    /// What it said on standard error.
    pub(super) said: String,
    /// Packets that reached a hook.
    pub(super) seen: u64,
    /// Of these, not selected.
    pub(super) skipped: u64,
    /// Of these, copied.
    pub(super) copied: u64,
    /// Of these, lost.
    pub(super) lost: u64,
    /// Of the copied, dropped because decoding was too slow.
    pub(super) dropped: u64,
    /// Frames that were decoded.
    pub(super) frames: u64,
}

impl Watch {
    /// Starts it with `--json` in the node's namespace, and waits until it is attached.
    pub(super) fn start(node: &Node, arguments: &[&str]) -> Self {
        Self::from_command(node.command("node", crate::command::program()), arguments)
    }

    /// The same by a command that ends in the program.
    pub(super) fn from_command(mut command: Command, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut child = command
            .args(["watch", "--json"])
            .args(arguments)
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fedisniff starts");
        let (exchanges, said) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (into, text) = (Arc::clone(&exchanges), Arc::clone(&said));
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    into.lock().expect("no panic").push(serde_json::from_str(&line).expect("JSON"));
                }
            }),
            std::thread::spawn(move || {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    let mut text = text.lock().expect("no panic");
                    text.push_str(&line);
                    text.push('\n');
                }
            }),
        ];
        let mut watch = Self { child, exchanges, said, readers, _home: home };
        watch.until("it watches", |watch| watch.said().contains("Ctrl-C ends it"));
        watch
    }

    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is(self) {
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "it ended before {what}: {}", self.said());
            assert!(begin.elapsed() < PATIENCE, "{what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it said until now.
    pub(super) fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }

    /// The exchanges that it told until now.
    pub(super) fn told(&self) -> usize {
        self.exchanges.lock().expect("no panic").len()
    }

    /// Waits until it has told so many exchanges.
    pub(super) fn wait_for(&mut self, exchanges: usize) {
        self.until(&format!("{exchanges} exchanges are told"), |watch| watch.told() >= exchanges);
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as `kill -9` does.
    pub(super) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn finish(mut self) -> Seen {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("what it said is read");
        }
        let said = self.said();
        assert!(status.success(), "{status}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        let exchanges = std::mem::take(&mut *self.exchanges.lock().expect("no panic"));
        let figure = |after: &str, before: &str| -> Option<u64> {
            let at = said.find(before)?;
            let from = said[..at].rfind(after)? + after.len();
            said[from..at].trim().parse().ok()
        };
        let kernel = |after: &str, before: &str| {
            figure(after, before).unwrap_or_else(|| panic!("no figure before {before:?} in: {said}"))
        };
        Seen {
            seen: kernel("in the kernel: ", " packets seen"),
            skipped: kernel("seen, ", " not selected"),
            copied: kernel("selected, ", " copied, "),
            lost: kernel("copied, ", " lost ("),
            dropped: figure("decoding was too slow: ", " packets (").unwrap_or(0),
            frames: kernel(" in ", " frames of"),
            exchanges,
            said,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // After `finish` it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    /// Each packet was counted once, and what was copied was decoded or is known to be dropped.
    #[track_caller]
    pub(super) fn adds_up(&self) {
        assert_eq!(self.seen, self.skipped + self.copied + self.lost, "{}", self.said);
        assert_eq!(self.copied, self.frames + self.dropped, "{}", self.said);
    }

    /// And nothing was lost.
    #[track_caller]
    pub(super) fn lost_nothing(&self) {
        self.adds_up();
        assert_eq!((self.lost, self.dropped), (0, 0), "{}", self.said);
    }
}
