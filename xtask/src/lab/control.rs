//! Telling the lab's processes what to do: JSON lines over their Unix sockets, so that nothing of it is captured.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longer than anything that a process waits for by itself.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection to one process.
pub(super) struct Control {
    pod: &'static str,
    stream: BufReader<UnixStream>,
}

impl Control {
    pub(super) fn connect(folder: &Path, pod: &'static str) -> Result<Self> {
        let path = socket(folder, pod);
        let stream =
            UnixStream::connect(&path).with_context(|| format!("reach {pod} at {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { pod, stream: BufReader::new(stream) })
    }

    /// Asks, and gives the answer.
    pub(super) fn ask(&mut self, request: &Value) -> Result<Value> {
        let context = || format!("ask {}: {request}", self.pod);
        let mut line = request.to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).with_context(context)?;
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(0) => bail!("{}: it is gone", context()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("{}: no answer within {} s", context(), PATIENCE.as_secs())
            }
            Err(error) => return Err(error).with_context(context),
        }
        let mut answer: Value = serde_json::from_str(&answer).with_context(context)?;
        match answer.get("error") {
            Some(error) => bail!("{}: {}", self.pod, error.as_str().unwrap_or("an error without words")),
            None => Ok(answer["ok"].take()),
        }
    }
}

/// Where a pod's process listens.
pub(super) fn socket(folder: &Path, pod: &str) -> std::path::PathBuf {
    folder.join(format!("{pod}.sock"))
}
