//! What happened while a scenario was played, from the servers' and the proxy's own logs: the lines that were added,
//! in files of the form that `tests/src/truth.rs` reads.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::control::Control;
use super::net::Names;
use super::scenario::Step;
use super::services::{Folders, SERVERS};

/// The logs, and how long each was when the play began.
pub(super) struct Logs {
    logs: Vec<Log>,
}

struct Log {
    /// What comes after `lab.` in the truth's file name.
    name: String,
    path: PathBuf,
    begin: u64,
}

impl Logs {
    /// Marks where the logs end now.
    fn mark(folders: &Folders) -> Self {
        let mut logs = vec![
            ("access.jsonl".to_owned(), folders.access_log()),
            ("dns.log".to_owned(), folders.logs.join("dns.log")),
        ];
        logs.extend(SERVERS.iter().map(|s| (format!("{}.server.jsonl", s.pod), folders.server_log(s.pod))));
        let log = |(name, path): (String, PathBuf)| Log { name, begin: length(&path), path };
        Self { logs: logs.into_iter().map(log).collect() }
    }

    /// Waits until nobody has anything left to do, and then marks where the logs end.
    pub(super) fn mark_at_rest(folders: &Folders) -> Result<Self> {
        Self::mark(folders).rest(folders, |_, _| true)?;
        Ok(Self::mark(folders))
    }

    /// Waits until nobody has anything left to do, and the proxy's log and the servers' logs have grown by the same
    /// exchanges; gives their number.
    pub(super) fn settle(&self, folders: &Folders) -> Result<u64> {
        self.rest(folders, |proxy, answered| proxy == answered)
    }

    fn rest(&self, folders: &Folders, fits: impl Fn(u64, u64) -> bool) -> Result<u64> {
        let mut servers = SERVERS
            .iter()
            .map(|server| Control::connect(&folders.run, server.pod))
            .collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        let mut quiet = 0;
        let mut last = Vec::new();
        loop {
            let mut pending = 0;
            for server in &mut servers {
                pending += server.ask(&json!({"do": "state"}))?["pending"].as_u64().unwrap_or(0);
            }
            let now: Vec<u64> = self.logs.iter().map(|log| length(&log.path)).collect();
            let (proxy, answered) = self.exchanges()?;
            quiet = if pending == 0 && fits(proxy, answered) && now == last { quiet + 1 } else { 0 };
            if quiet == 3 {
                return Ok(proxy);
            }
            last = now;
            if begin.elapsed() > Duration::from_secs(30) {
                bail!(
                    "the servers do not come to rest: {pending} tasks are left, the proxy logged {proxy} \
                     exchanges and the servers {answered}"
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lines of the proxy's log and of the servers'.
    fn exchanges(&self) -> Result<(u64, u64)> {
        let (mut proxy, mut answered) = (0, 0);
        for log in self.logs.iter().filter(|log| log.name.ends_with(".jsonl")) {
            let lines = log.added()?.iter().filter(|byte| **byte == b'\n').count() as u64;
            if log.name == "access.jsonl" { proxy += lines } else { answered += lines }
        }
        Ok((proxy, answered))
    }

    /// Writes the truth into a folder.
    pub(super) fn write(&self, folder: &Path, names: &Names, steps: &[Step]) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        for log in &self.logs {
            let path = folder.join(format!("lab.{}", log.name));
            std::fs::write(&path, log.added()?).with_context(|| format!("write {}", path.display()))?;
        }
        let steps: Vec<Value> = steps.iter().map(Step::json).collect();
        let truth = json!({"lab": names.lab, "pods": names.places(), "steps": steps});
        let path = folder.join("lab.truth.json");
        std::fs::write(&path, format!("{truth:#}\n")).with_context(|| format!("write {}", path.display()))
    }
}

impl Log {
    fn added(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = || format!("read {}", self.path.display());
        let mut file = std::fs::File::open(&self.path).with_context(read)?;
        file.seek(SeekFrom::Start(self.begin)).with_context(read)?;
        file.read_to_end(&mut bytes).with_context(read)?;
        Ok(bytes)
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}
