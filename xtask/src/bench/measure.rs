//! What one run of a program cost: CPU (user and system), wall time, peak resident memory, of that process and its
//! children. A program inherits its parent's peak memory when it is started, so it is started by this small one again
//! (`xtask measure`), whose figures are then the program's own.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What to run (used by the measuring parent only).
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to write the figures
    #[arg(long)]
    into: PathBuf,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) rss_mib: f64,
    code: Option<i32>,
}

/// Runs the program and writes what it cost; its exit code is this one's.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (program, arguments) = options.command.split_first().context("no program")?;
    let started = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("run {}", program.to_string_lossy()))?;
    let wall_s = started.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask what the program used")?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    let cost = Cost {
        wall_s,
        cpu_s: seconds(usage.user_time()) + seconds(usage.system_time()),
        // Linux counts ru_maxrss in KiB (getrusage(2)).
        rss_mib: usage.max_rss() as f64 / 1024.0,
        code: status.code(),
    };
    std::fs::write(&options.into, serde_json::to_vec(&cost)?)
        .with_context(|| format!("write {}", options.into.display()))
}

/// A command with its arguments, to be measured.
pub(crate) fn command(program: &Path, arguments: &[&str]) -> Vec<OsString> {
    std::iter::once(program.as_os_str().to_owned()).chain(arguments.iter().map(OsString::from)).collect()
}

/// A program that is being measured; what it prints goes to files.
pub(crate) struct Running {
    child: Child,
    folder: tempfile::TempDir,
    shown: String,
}

/// What a measured program printed.
pub(crate) struct Finished {
    pub(crate) cost: Cost,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts it. `input` is its standard input.
    pub(crate) fn start(command: &[OsString], input: Stdio) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("xtask").tempdir_in(crate::shell::scratch("bench")?)?;
        let mut measuring = Command::new(std::env::current_exe()?);
        measuring.arg("measure").arg("--into").arg(folder.path().join("cost")).arg("--").args(command);
        measuring.stdin(input);
        measuring.stdout(File::create(folder.path().join("stdout"))?);
        measuring.stderr(File::create(folder.path().join("stderr"))?);
        let shown = command.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let child = measuring.spawn().with_context(|| format!("run `{shown}`"))?;
        Ok(Self { child, folder, shown })
    }

    /// The writing end of its standard input, when that is a pipe.
    pub(crate) fn input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for it. It fails unless it exited with 0.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        self.child.wait()?;
        let cost = std::fs::read(self.folder.path().join("cost"));
        let finished = |cost| Finished { cost, folder: self.folder };
        let finished = match cost.ok().and_then(|c| serde_json::from_slice::<Cost>(&c).ok()) {
            Some(cost) => finished(cost),
            None => bail!("`{}` could not be run", self.shown),
        };
        if finished.cost.code != Some(0) {
            let said = finished.stderr()?;
            let tail = said.lines().rev().take(12).collect::<Vec<_>>();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!("`{}` failed ({:?}):\n{tail}", self.shown, finished.cost.code);
        }
        Ok(finished)
    }
}

impl Finished {
    /// Where its standard output is.
    pub(crate) fn stdout_file(&self) -> PathBuf {
        self.folder.path().join("stdout")
    }

    /// Its standard output.
    pub(crate) fn stdout(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.stdout_file())?).into_owned())
    }

    /// Its standard error.
    pub(crate) fn stderr(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.folder.path().join("stderr"))?).into_owned())
    }
}

/// Runs a program to its end.
pub(crate) fn measured(command: &[OsString]) -> Result<Finished> {
    Running::start(command, Stdio::null())?.finish()
}

/// Several figures of the same thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of two middles their mean.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[middle],
            _ => (self.0[middle - 1] + self.0[middle]) / 2.0,
        }
    }

    /// What this share of the figures does not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let place = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len().max(1));
        self.0.get(place - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// `1.23 (1.20..1.31)`.
    pub(crate) fn show(&self) -> String {
        format!("{:.2} ({:.2}..{:.2})", self.median(), self.min(), self.max())
    }
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn medians_and_percentiles_are_of_the_sorted_figures() {
        let mut series = Series::default();
        for figure in [9.0, 1.0, 5.0, 3.0] {
            series.push(figure);
        }
        assert_eq!((series.median(), series.min(), series.max()), (4.0, 1.0, 9.0));
        assert_eq!((series.percentile(0.5), series.percentile(0.99)), (3.0, 9.0));
        series.push(4.5);
        assert_eq!(series.median(), 4.5);
    }
}
