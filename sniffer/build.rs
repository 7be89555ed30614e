//! Refuses to embed a page that was not built from the sources beside it. It builds nothing: a user needs only Rust.

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
    let recorded = std::fs::read_to_string(ui.join("dist.sha256")).unwrap_or_default();
    match sources::hash(&ui) {
        Ok(hash) if hash == recorded.trim() => {}
        Ok(_) => {
            println!("cargo::error=ui/dist was not built from the sources in ui/src: run `cargo xtask ui`");
        }
        Err(error) => println!("cargo::error=ui/: {error}"),
    }
}
