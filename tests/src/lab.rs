//! The lab (`cargo xtask lab`, see `tests/lab/README.md`) as a value: it is up while the value lives. What the servers
//! and the proxy logged comes back in the form of the captures' truth.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::truth::{Logged, import};

/// A lab of its own name.
pub struct Lab {
    name: String,
    /// What `lab.json` says: namespaces, addresses and veths.
    about: Value,
}

impl Lab {
    /// Builds it; `options` are those of `cargo xtask lab up`. The name must be the caller's own: small letters and
    /// digits, up to 20.
    ///
    /// # Errors
    /// It does not come up, with what it said.
    pub fn up(name: &str, options: &[&str]) -> Result<Self> {
        // Made first: what is there of it goes away also when the rest fails.
        let mut lab = Self { name: name.to_owned(), about: Value::Null };
        xtask("up", name, options)?;
        let file = root().join("target/lab").join(name).join("lab.json");
        let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        lab.about = serde_json::from_slice(&text)?;
        Ok(lab)
    }

    /// Plays the scenario so often, into `folder`, and gives what the servers (`fed1`, `fed2`) and the proxy (`proxy`)
    /// logged.
    ///
    /// # Errors
    /// A step failed, with what was said.
    pub fn run(&self, runs: u32, folder: &Path) -> Result<Vec<Logged>> {
        let (runs, out) = (runs.to_string(), folder.display().to_string());
        xtask("run", &self.name, &["--runs", &runs, "--out", &out])?;
        import(folder, "lab")
    }

    /// The node's namespace.
    pub fn node(&self) -> String {
        format!("{}-node", self.name)
    }

    /// The node's end of a pod's veth.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn veth(&self, pod: &str) -> Result<&str> {
        let pods = self.about["pods"].as_array().into_iter().flatten();
        let found = pods.filter(|p| p["pod"] == pod).find_map(|p| p["veth"].as_str());
        found.with_context(|| format!("no pod {pod} in {}", self.about))
    }

    /// A command inside the node's namespace.
    pub fn in_node(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.node()]).arg(program);
        command
    }

    /// Starts to capture an interface of the node into a file.
    ///
    /// # Errors
    /// tcpdump does not start.
    pub fn capture(&self, interface: &str, file: &Path) -> Result<Capture> {
        let log = file.with_extension("tcpdump.log");
        let said = std::fs::File::create(&log)?;
        let mut command = self.in_node("tcpdump");
        command.args([
            "-i",
            interface,
            "-s",
            "0",
            "-B",
            "65536",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
        ]);
        let child = command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?;
        let capture = Capture { child, file: file.to_owned(), log };
        let begin = Instant::now();
        while !capture.said().contains("listening on") {
            ensure!(begin.elapsed() < Duration::from_secs(20), "tcpdump did not start: {}", capture.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(capture)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = xtask("down", &self.name, &[]) {
            eprintln!("{error:#}");
        }
    }
}

/// tcpdump at work.
pub struct Capture {
    child: Child,
    file: PathBuf,
    log: PathBuf,
}

impl Capture {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it when nothing comes any more.
    ///
    /// # Errors
    /// tcpdump lost packets.
    pub fn finish(mut self) -> Result<()> {
        // What is still in tcpdump's ring when it is stopped would be lost.
        let mut length = u64::MAX;
        while length != self.file.metadata()?.len() {
            length = self.file.metadata()?.len();
            std::thread::sleep(Duration::from_millis(500));
        }
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &pid]).status()?.success(), "stop tcpdump");
        self.child.wait()?;
        let said = self.said();
        ensure!(said.contains("0 packets dropped by kernel"), "tcpdump lost packets: {said}");
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `finish` it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `cargo xtask lab ACTION --name NAME …`, not yet started.
pub fn command(action: &str, name: &str, options: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["xtask", "lab", action, "--name", name]).args(options);
    command
}

/// Runs it; what it says comes with an error only.
fn xtask(action: &str, name: &str, options: &[&str]) -> Result<String> {
    let mut command = command(action, name, options);
    let output = command.stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    let (text, status) = (String::from_utf8_lossy(&text).into_owned(), output.status);
    if !status.success() {
        bail!("`cargo xtask lab {action} --name {name} {}` failed ({status}):\n{text}", options.join(" "));
    }
    Ok(text)
}
