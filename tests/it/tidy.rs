//! The rules of the house (ARCHITECTURE.md), kept by a test and not by memory. Each test says what must not be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Every file that git knows or would take.
fn files() -> Vec<PathBuf> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed");
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("file names are UTF-8").lines().map(PathBuf::from).collect()
}

fn rust_files(below: &str) -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|f| f.starts_with(below) && f.extension().is_some_and(|e| e == "rs"))
        .filter_map(|f| Some((f.clone(), std::fs::read_to_string(root().join(&f)).ok()?)))
        .collect()
}

/// The pure modules in the order of the packet's way: each may use those before it. `view`, `redact`, `filter` and
/// `pipeline` stand after them.
const PURE: &[&str] = &[
    "frame",
    "flow",
    "stream",
    "http",
    "activitypub",
    "policy",
    "verdict",
    "audit",
    "view",
    "redact",
    "filter",
    "pipeline",
];
const EDGES: &[&str] = &["capture", "cluster", "store", "export", "viewer", "enforce"];

/// The module that a file of `sniffer/src` belongs to.
fn module_of(file: &Path) -> Option<String> {
    let rest = file.strip_prefix("sniffer/src").ok()?;
    let first = rest.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// `tests.rs`, and what lies in a folder `tests`.
fn is_test(file: &Path) -> bool {
    file.file_stem().is_some_and(|s| s == "tests") || file.components().any(|c| c.as_os_str() == "tests")
}

/// What a source names of its own crate: `crate::flow` gives `flow`, also from `use crate::{flow, http::Exchange}`.
fn names_of_crate(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            let mut at_start = true;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        names.push(std::mem::take(&mut word));
                        at_start = true;
                    }
                    c if depth == 1 && at_start && (c.is_alphanumeric() || c == '_') => word.push(c),
                    c if depth == 1 && c == ':' => at_start = false,
                    _ => {}
                }
                if depth == 0 {
                    names.push(word);
                    break;
                }
            }
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn a_pure_module_imports_only_pure_modules_to_its_left() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("sniffer/src") {
        let Some(module) = module_of(&file) else { continue };
        let Some(place) = PURE.iter().position(|m| *m == module) else { continue };
        for name in names_of_crate(&text) {
            let to_the_right = PURE.iter().position(|m| *m == name).is_some_and(|other| other > place);
            if to_the_right || EDGES.contains(&name.as_str()) {
                wrong.push(format!("{}: {module} must not use {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn edges_do_not_import_each_other_save_the_viewer_the_store() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("sniffer/src") {
        let Some(module) = module_of(&file).filter(|m| EDGES.contains(&m.as_str())) else { continue };
        // A test may read back with one edge what another wrote.
        if is_test(&file) {
            continue;
        }
        for name in names_of_crate(&text) {
            let allowed = name == module || (module == "viewer" && name == "store");
            if EDGES.contains(&name.as_str()) && !allowed {
                wrong.push(format!("{}: {module} must not use {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_have_no_clock_file_socket_thread_or_environment() {
    let forbidden = [
        "std::fs",
        "std::env",
        "std::thread",
        "std::process",
        "std::os",
        "std::time::Instant",
        "std::time::SystemTime",
        "SystemTime::now",
        "Instant::now",
        "TcpStream",
        "UdpSocket",
        "UnixStream",
        "tokio",
        "aya",
        "redb",
        "axum",
        "anyhow",
        "tracing",
        "println!",
        "eprintln!",
    ];
    let mut wrong = Vec::new();
    for (file, text) in rust_files("sniffer/src") {
        if !module_of(&file).is_some_and(|m| PURE.contains(&m.as_str())) {
            continue;
        }
        let test_file = is_test(&file);
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                let whole = code.match_indices(word).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    let after = code[at + word.len()..].chars().next();
                    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    !letter(before) && (word.ends_with('!') || !letter(after))
                });
                if whole && !test_file {
                    wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let wrong: Vec<_> = ["sniffer", "sniffer-ebpf", "xtask", "tests"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "no `//!` at the top of: {}", wrong.join(", "));
}

#[test]
fn nothing_is_left_undone_in_the_sources() {
    // Split so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
    ];
    let mut wrong = Vec::new();
    for file in files() {
        let source = file
            .extension()
            .is_some_and(|e| ["rs", "ts", "tsx", "css", "mjs", "sh", "toml"].iter().any(|w| e == *w));
        if !source || file.starts_with("ui/dist") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|w| line.contains(w)) {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_larger_than_two_and_a_half_megabytes() {
    let large: Vec<_> = files()
        .into_iter()
        .filter_map(|f| Some((f.clone(), std::fs::metadata(root().join(&f)).ok()?.len())))
        .filter(|(_, length)| *length > 2_500_000)
        .map(|(f, length)| format!("{}: {length}", f.display()))
        .collect();
    assert!(large.is_empty(), "{}", large.join("\n"));
}

#[test]
fn the_top_level_holds_only_what_the_design_names() {
    let known = [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "clippy.toml",
        "sniffer-ebpf",
        "sniffer",
        "xtask",
        "ui",
        "deploy",
        "tests",
        "README.md",
        "README.ja.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "LICENSE",
    ];
    let strange: std::collections::BTreeSet<String> = files()
        .iter()
        .filter_map(|f| Some(f.components().next()?.as_os_str().to_string_lossy().into_owned()))
        .filter(|top| !top.starts_with('.') && !known.contains(&top.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn relative_links_in_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for file in files().into_iter().filter(|f| f.extension().is_some_and(|e| e == "md")) {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (at, _) in text.match_indices("](") {
            let target: String = text[at + 2..].chars().take_while(|c| *c != ')').collect();
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let from = root().join(&file).parent().map(Path::to_path_buf).unwrap_or_default();
            if !from.join(path).exists() {
                wrong.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The fenced commands of a document, in order.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            out.push(line.trim_end().to_owned());
        }
    }
    out
}

#[test]
fn the_japanese_readme_has_the_same_sections_and_commands_as_the_english_one() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let (english, japanese) = (read("README.md"), read("README.ja.md"));
    let strip = |lines: Vec<String>| -> Vec<String> {
        // Comments behind a command are translated; the commands are not.
        lines.into_iter().map(|l| l.split(" #").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    assert_eq!(strip(commands(&english)), strip(commands(&japanese)));
    let headings = |text: &str| -> Vec<usize> {
        let mut inside = false;
        text.lines()
            .filter(|l| {
                if l.starts_with("```") {
                    inside = !inside;
                }
                !inside && l.starts_with('#')
            })
            .map(|l| l.chars().take_while(|c| *c == '#').count())
            .collect()
    };
    assert_eq!(headings(&english), headings(&japanese));
}

#[test]
fn crates_have_licences_that_the_design_allows() {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let allowed = [
        "MIT",
        "MIT-0",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unlicense",
        "0BSD",
        "CC0-1.0",
        "Unicode-3.0",
        "BSL-1.0",
    ];
    let mut wrong = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        // An expression is fine when one alternative of each OR-group is; `AND` parts must each be.
        let fine = licence.replace('/', " OR ").split(" AND ").all(|part| {
            part.split(" OR ").any(|one| {
                let one = one.trim_matches(|c: char| c == '(' || c == ')' || c == ' ');
                allowed.contains(&one.split(" WITH ").next().unwrap_or(one))
            })
        });
        if !fine {
            wrong.insert(package["name"].as_str().unwrap_or("?").to_owned(), licence.to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
