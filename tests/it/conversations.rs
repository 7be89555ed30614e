//! `tests/streams/*.t`: conversations in text, run through the whole pipeline as frames (see `tests::conversation`).

use std::path::Path;

#[test]
fn conversations_give_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("streams");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/streams")
        .map(|f| f.expect("a file").path())
        .filter(|p| p.extension().is_some_and(|e| e == "t"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no conversations in {}", folder.display());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("UTF-8");
        let got = match tests::conversation::run(&text) {
            Ok(got) => got,
            Err(error) => {
                wrong.push(format!("{}: {error:#}", file.display()));
                continue;
            }
        };
        let (head, expected) = tests::conversation::split(&text);
        if got.trim_end() == expected.trim_end() {
            continue;
        }
        if bless {
            std::fs::write(file, format!("{head}{}\n{}", tests::conversation::MARK, got)).expect("write");
        } else {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- got\n{got}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nrenew with `cargo xtask fixtures --bless` after reading the difference",
        wrong.join("\n")
    );
}
