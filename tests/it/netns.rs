//! A network namespace for one test, with veths in it as a node has them, and fedisniff inside.

use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::command::{program, stderr, stdout};

/// Goes away, with everything in it, when it is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one, whose only interface is the loopback.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fs-it{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// The same, with a pair of veths that are up, of which fedisniff takes the first.
    pub(crate) fn with_veth() -> Self {
        let namespace = Self::new();
        namespace.ip("link add veth0 type veth peer name pod0");
        namespace.ip("link set veth0 up");
        namespace.ip("link set pod0 up");
        namespace
    }

    /// `ip` in it.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')))
    }

    /// `tc` in it.
    pub(crate) fn tc(&self, arguments: &str) -> String {
        run(Command::new("tc").args(["-n", &self.name]).args(arguments.split(' ')))
    }

    /// A filter on an interface's clsact hook that is nobody's here: classic BPF that matches nothing.
    pub(crate) fn foreign_filter(&self, interface: &str, hook: &str) {
        let place = ["filter", "add", "dev", interface, hook, "bpf", "bytecode", "1,6 0 0 0"];
        run(Command::new("tc").args(["-n", &self.name]).args(place));
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = run(Command::new("ip").args(["netns", "pids", &self.name]));
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// A program in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    /// fedisniff in it, to its end.
    pub(crate) fn fedisniff(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(program().to_str().expect("UTF-8"));
        command.args(arguments).output().expect("fedisniff starts")
    }

    /// `fedisniff watch` in it, which is there when it says what it watches.
    pub(crate) fn watch(&self, arguments: &[&str]) -> Watch {
        let mut command = self.command(program().to_str().expect("UTF-8"));
        command.arg("watch").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("fedisniff starts");
        let stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
        let mut watch = Watch { child, stderr };
        let mut line = String::new();
        // The viewer's address is told first.
        while line.is_empty() || line.starts_with("The viewer is at ") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut watch.stderr, &mut line).expect("a line");
            assert!(read > 0, "it ended at once");
        }
        assert!(line.starts_with("Watching "), "{line}");
        watch
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A `fedisniff watch` that runs. It is killed when it is dropped.
pub(crate) struct Watch {
    child: Child,
    stderr: std::io::BufReader<std::process::ChildStderr>,
}

impl Watch {
    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal and waits for its end; gives what it said after it began. `ip netns exec` has become it, so
    /// that its number is this child's.
    pub(crate) fn end(mut self, signal: &str) -> String {
        run(Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]));
        let status = self.child.wait().expect("its end");
        let mut rest = String::new();
        // What it started may still hold the pipe.
        if signal != "KILL" {
            std::io::Read::read_to_string(&mut self.stderr, &mut rest).expect("what it says");
            assert!(status.success(), "{rest}");
        }
        rest
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    stdout(&output)
}

/// Waits until `what` is so, ten seconds at most.
#[track_caller]
pub(crate) fn until(text: &str, mut what: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(10), "not so after ten seconds: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
