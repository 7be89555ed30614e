//! Refuses to embed a page or an eBPF object that was not built from the sources beside it. It builds nothing: a user
//! needs only Rust.

#[path = "build/sources.rs"]
mod sources;

use std::path::Path;

fn main() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui");
    println!("cargo::rerun-if-changed=build");
    for part in [
        "src",
        "dist",
        "dist.sha256",
        "index.html",
        "package-lock.json",
        "package.json",
        "tsconfig.json",
        "vite.config.ts",
    ] {
        println!("cargo::rerun-if-changed={}", ui.join(part).display());
    }
    fresh(sources::hash(&ui), &ui.join("dist.sha256"), "ui/dist", "ui");
    let ebpf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sniffer-ebpf");
    for part in ["src", "Cargo.toml", "object"] {
        println!("cargo::rerun-if-changed={}", ebpf.join(part).display());
    }
    fresh(sources::ebpf(&ebpf), &ebpf.join("object/sources.sha256"), "sniffer-ebpf/object", "ebpf");
}

/// Whether the recorded hash is that of the sources.
fn fresh(hash: std::io::Result<String>, record: &Path, built: &str, command: &str) {
    match hash {
        Ok(hash) if hash == std::fs::read_to_string(record).unwrap_or_default().trim() => {}
        Ok(_) => println!(
            "cargo::error={built} was not built from the sources beside it: run `cargo xtask {command}`"
        ),
        Err(error) => println!("cargo::error={built}: {error}"),
    }
}
