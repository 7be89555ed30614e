//! The hashes of what the committed built files are built from: `ui/dist` (the same rule as `ui/scripts/sources.mjs`,
//! which writes it beside them) and `sniffer-ebpf/object`. Shared by the build script, which refuses to embed what is
//! stale, and by `cargo xtask ui --check` and `cargo xtask ebpf`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Files directly in `ui/` that the build reads, beside everything in `ui/src` that is not a test.
const FILES: &[&str] =
    &["index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn below(ui: &Path, folder: &str, into: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(ui.join(folder))? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            below(ui, &name, into)?;
        } else if !name.ends_with(".test.ts") {
            into.push(name);
        }
    }
    Ok(())
}

/// SHA-256, in hexadecimal, of the lines that `sha256sum` prints for the sources, sorted by path.
pub(crate) fn hash(ui: &Path) -> io::Result<String> {
    let mut names: Vec<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    below(ui, "src", &mut names)?;
    hash_of(ui, names)
}

/// The same for the sources of the kernel's programs.
pub(crate) fn ebpf(folder: &Path) -> io::Result<String> {
    let mut names = vec!["Cargo.toml".to_owned()];
    below(folder, "src", &mut names)?;
    hash_of(folder, names)
}

fn hash_of(folder: &Path, mut names: Vec<String>) -> io::Result<String> {
    names.sort();
    let mut list = String::new();
    for name in names {
        let digest = Sha256::digest(std::fs::read(folder.join(&name))?);
        let _ = writeln!(list, "{}  {name}", hex(&digest));
    }
    Ok(hex(&Sha256::digest(list)))
}
