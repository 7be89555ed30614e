//! Where Kubernetes objects come from without an API server: a file or a folder of YAML (or JSON), in the form that
//! `kubectl get -A -o yaml` gives: several documents, and lists. Re-read when it changes ([`Watcher`]).

mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::policy::Cluster;
use crate::policy::objects::{self, Object, Problem};

pub use watch::{Change, Watcher};

/// All files together may be this large. A thousand pods are some 5 MB.
pub const MAX_BYTES: u64 = 256 << 20;
/// So many files are read from a folder.
pub const MAX_FILES: usize = 10_000;
/// Folders nest so deep.
const MAX_DEPTH: usize = 16;
/// What aliases may add to a document: nobody writes policies with more, and it bounds what a small file can grow to.
const MAX_ALIASED: usize = 100_000;

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// The state of the cluster, less what was refused.
    pub cluster: Cluster,
    /// What the API server would refuse, and documents that are no YAML.
    pub problems: Vec<Problem>,
    /// Objects of kinds that policies do not depend on.
    pub ignored: usize,
    /// Objects that were taken.
    pub objects: usize,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is more than is ever meant.
    #[error("{path}: {what}", path = path.display())]
    TooMuch {
        /// Where the limit was passed.
        path: PathBuf,
        /// Which limit.
        what: &'static str,
    },
    /// A folder without any.
    #[error("{path}: no .yaml, .yml or .json file in this folder", path = path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// There was not one object in it that is of use.
    #[error(
        "{path}: no Kubernetes object that policies depend on (NetworkPolicy, Pod, Namespace, Service, EndpointSlice, \
         Node); `kubectl get networkpolicies,pods,namespaces,services,endpointslices,nodes -A -o yaml` writes them",
        path = path.display()
    )]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
}

/// Reads a file, a folder (all `.yaml`, `.yml` and `.json` files in it and below, in the order of their names), or
/// standard input (`-`).
pub fn read(path: &Path) -> Result<Read, Error> {
    let io = |error| Error::Io { path: path.to_owned(), error };
    let mut taken = Taken::default();
    let files = if path == Path::new("-") {
        taken.file(path, std::io::stdin().lock())?;
        Vec::new()
    } else {
        let files = files(path)?;
        for file in &files {
            let opened =
                std::fs::File::open(file).map_err(|error| Error::Io { path: file.clone(), error })?;
            taken.file(file, opened)?;
        }
        if files.is_empty() {
            return Err(if path.is_dir() {
                Error::Nothing { path: path.to_owned() }
            } else {
                io(std::io::Error::from(std::io::ErrorKind::NotFound))
            });
        }
        files
    };
    if taken.objects.is_empty() && taken.problems.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(taken.finish(files))
}

/// Reads objects from a text; `name` is said as their place.
pub fn read_text(name: &Path, text: &str) -> Read {
    let mut taken = Taken::default();
    taken.text(name, text);
    taken.finish(Vec::new())
}

/// The files that a path means.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |path: &Path, error| Error::Io { path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(|error| io(path, error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| io(&folder, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| io(&folder, error))?;
            let file = entry.path();
            // `..data` and its like: what a mounted ConfigMap keeps behind its links.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let Ok(metadata) = std::fs::metadata(&file) else { continue };
            if metadata.is_dir() && depth < MAX_DEPTH {
                folders.push((file, depth + 1));
            } else if metadata.is_file() && is_ours(&file) {
                found.push(file);
            }
            if found.len() > MAX_FILES {
                return Err(Error::TooMuch { path: path.to_owned(), what: "more than 10,000 files" });
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_ours(file: &Path) -> bool {
    file.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|ours| e.eq_ignore_ascii_case(ours)))
}

/// What was taken from files so far.
#[derive(Default)]
struct Taken {
    bytes: u64,
    objects: Vec<(Option<String>, Object)>,
    problems: Vec<Problem>,
    ignored: usize,
}

impl Taken {
    fn finish(self, files: Vec<PathBuf>) -> Read {
        let objects = self.objects.len();
        let (cluster, refused) = Cluster::new(self.objects);
        let mut problems = self.problems;
        problems.extend(refused);
        Read { cluster, problems, ignored: self.ignored, objects, files }
    }

    fn file(&mut self, path: &Path, from: impl std::io::Read) -> Result<(), Error> {
        let mut text = String::new();
        let left = MAX_BYTES.saturating_sub(self.bytes).saturating_add(1);
        let read = from.take(left).read_to_string(&mut text);
        let read = read.map_err(|error| Error::Io { path: path.to_owned(), error })?;
        self.bytes = self.bytes.saturating_add(read as u64);
        if self.bytes > MAX_BYTES {
            return Err(Error::TooMuch { path: path.to_owned(), what: "more than 256 MiB of objects" });
        }
        self.text(path, &text);
        Ok(())
    }

    /// Takes the documents of a text. One that is no YAML does not lose the others.
    fn text(&mut self, path: &Path, text: &str) {
        let name =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for document in documents(text) {
            let place = Place { file: &name, line: document.line };
            match values(document.text) {
                Ok(values) => {
                    for value in values {
                        let parsed = objects::parse(value);
                        let place = || Some(place.to_string());
                        self.objects.extend(parsed.objects.into_iter().map(|object| (place(), object)));
                        self.problems.extend(
                            parsed.problems.into_iter().map(|problem| Problem { place: place(), ..problem }),
                        );
                        self.ignored = self.ignored.saturating_add(parsed.ignored);
                    }
                }
                Err(Syntax { line, column, message }) => {
                    let line = document.line.saturating_add(line.saturating_sub(1));
                    self.problems.push(Problem {
                        place: Some(format!("{name}:{line}:{column}")),
                        object: "a document".into(),
                        field: String::new(),
                        reason: format!("is no YAML: {message}"),
                    });
                }
            }
        }
    }
}

struct Place<'a> {
    file: &'a str,
    line: u64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A document of a text, with the line that it begins at.
struct Document<'a> {
    line: u64,
    text: &'a str,
}

/// Parts a text at its `---` lines. (A line that begins so is a marker wherever it stands: YAML 1.2.2, 9.1.2.) What holds
/// nothing but comments and directives belongs to what follows.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut out = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    let mut empty = true;
    for (line, number) in text.split_inclusive('\n').zip(1_u64..) {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && !empty {
            out.push(Document { line: start_line, text: text.get(start..at).unwrap_or_default() });
            (start, start_line, empty) = (at, number, true);
        }
        let content = line.trim();
        if empty && !marker {
            if content.is_empty() || content.starts_with(['#', '%']) {
                // The place of an object is where it begins, not where its comments do.
                if start == at {
                    start = at + if content.starts_with('%') { 0 } else { line.len() };
                    start_line = if content.starts_with('%') { number } else { number + 1 };
                }
            } else {
                empty = false;
            }
        } else if marker && content.len() > 3 && !content.get(3..).unwrap_or_default().trim().starts_with('#')
        {
            empty = false;
        }
        at += line.len();
    }
    if !empty {
        out.push(Document { line: start_line, text: text.get(start..).unwrap_or_default() });
    }
    out
}

/// Why a document is no YAML.
struct Syntax {
    line: u64,
    column: u64,
    message: String,
}

fn values(text: &str) -> Result<Vec<serde_json::Value>, Syntax> {
    // JSON is nearly YAML, and read much faster as what it is.
    if text.trim_start().starts_with('{')
        && let Ok(values) =
            serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<_>, _>>()
    {
        return Ok(values);
    }
    let nodes = text.len().saturating_add(1024);
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: nodes.saturating_add(MAX_ALIASED),
            max_nodes: nodes.saturating_add(MAX_ALIASED),
            max_total_scalar_bytes: nodes.saturating_add(16 << 20),
        },
    };
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    options.with_snippet = false;
    // YAML 1.2, as a namespace may be called `y` and a label's value be `no`.
    options.strict_booleans = true;
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let location = error.location();
        Syntax {
            line: location.map_or(1, |l| l.line()),
            column: location.map_or(1, |l| l.column()),
            message: error.without_snippet().to_string(),
        }
    })
}
