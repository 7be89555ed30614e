//! Speed: the same capture through fedisniff (decoding alone, with bodies and readings, into a store) and through the
//! other programs of the field, interleaved, each checked to have found what it should.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::capture::{self, Facts};
use super::measure::{Finished, Series, command, measured};
use super::{Bench, report};
use crate::shell::{root, run as run_command, which};

/// Makes a program's command for a capture and a folder.
pub(super) type MakeCommand = Box<dyn Fn(&Path, &Path) -> Vec<OsString>>;

/// A program in the comparison.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) does: &'static str,
    /// The command for a capture, with a fresh folder for what it writes.
    pub(super) command: MakeCommand,
    /// Exchanges that it found; `None` for a program that knows no HTTP.
    pub(super) found: fn(&Finished, &Path) -> Result<Option<u64>>,
    /// Without a packet it may be right, and still see less: only heads at the start of packets (httpry).
    exact: bool,
    cpu: Series,
    rss: Series,
    /// Bytes written into the folder.
    wrote: u64,
}

/// What the others are compared with.
const YARDSTICK: &str = "gopacket";

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let capture = capture::get(bench)?;
    let (mut contenders, skipped) = contenders(bench)?;
    for round in 1..=bench.runs {
        for contender in &mut contenders {
            let folder = tempfile::Builder::new().prefix("out").tempdir_in(&bench.folder)?;
            let finished = measured(&(contender.command)(&capture.file, folder.path()))?;
            let found = (contender.found)(&finished, folder.path())?;
            check(contender, found, &capture.facts)?;
            contender.cpu.push(finished.cost.cpu_s);
            contender.rss.push(finished.cost.rss_mib);
            contender.wrote = size_below(folder.path())?;
            println!("decode {round}/{}: {}: {:.2} s", bench.runs, contender.name, finished.cost.cpu_s);
        }
    }
    let facts = &capture.facts;
    let base = contenders.iter().find(|c| c.name == YARDSTICK).map(|c| c.cpu.median());
    let rows: Vec<Vec<String>> = contenders
        .iter()
        .map(|c| {
            let ratio = base.map_or_else(|| "-".to_owned(), |base| format!("{:.2}", c.cpu.median() / base));
            vec![
                c.name.to_owned(),
                c.does.to_owned(),
                c.cpu.show(),
                format!("{:.0}", facts.bytes as f64 / 1e6 / c.cpu.median()),
                format!("{:.1}", c.cpu.median() * 1e6 / facts.exchanges as f64),
                format!("{:.0}", c.rss.max()),
                ratio,
            ]
        })
        .collect();
    let head = [
        "program",
        "what it does",
        "CPU s: median (min..max)",
        "MB per CPU s",
        "µs per exchange",
        "peak RSS MiB",
        "× gopacket",
    ];
    let mut text = format!(
        "## Decoding\n\n`cargo xtask bench decode --runs {}` on {}; CPU is user and system time of the whole process.\n\n{}",
        bench.runs,
        facts.line(),
        report::table(&head, &rows)
    );
    for contender in contenders.iter().filter(|c| c.name == STORING) {
        text += &format!(
            "\nThe store takes {:.0} bytes an exchange, {:.2} bytes for each byte of the capture.\n",
            contender.wrote as f64 / facts.exchanges as f64,
            contender.wrote as f64 / facts.bytes as f64
        );
    }
    for (name, why) in skipped {
        text += &format!("\nSKIPPED: {name}: {why}\n");
    }
    Ok(text)
}

const STORING: &str = "fedisniff into a store";

fn check(contender: &Contender, found: Option<u64>, facts: &Facts) -> Result<()> {
    let Some(found) = found else { return Ok(()) };
    let right = if contender.exact {
        found == facts.exchanges || found == facts.requests
    } else {
        found * 100 >= facts.exchanges * 95
    };
    ensure!(
        right,
        "{} found {found} exchanges, there are {} ({} requests)",
        contender.name,
        facts.exchanges,
        facts.requests
    );
    Ok(())
}

fn contender(
    name: &'static str,
    does: &'static str,
    command: impl Fn(&Path, &Path) -> Vec<OsString> + 'static,
    found: fn(&Finished, &Path) -> Result<Option<u64>>,
) -> Contender {
    let (cpu, rss) = Default::default();
    Contender { name, does, command: Box::new(command), found, exact: true, cpu, rss, wrote: 0 }
}

/// A program that is left out, and why.
type Skipped = (&'static str, String);

fn contenders(bench: &Bench) -> Result<(Vec<Contender>, Vec<Skipped>)> {
    let ours = |extra: &'static [&'static str]| {
        let program = bench.fedisniff.clone();
        move |file: &Path, folder: &Path| {
            let mut all = command(&program, &["read", &file.display().to_string(), "--quiet"]);
            all.extend(
                extra.iter().map(|a| if *a == "DB" { folder.join("db").into() } else { OsString::from(a) }),
            );
            all
        }
    };
    let mut contenders = vec![
        contender(
            "fedisniff, decoding alone",
            "reassembly, HTTP, no bodies kept, no output",
            ours(&["--no-bodies"]),
            our_count,
        ),
        contender("fedisniff", "bodies decoded and hashed, readings, no output", ours(&[]), our_count),
        contender(STORING, "the same, stored in redb", ours(&["--store", "DB"]), our_count),
    ];
    let mut skipped = Vec::new();
    if !bench.alone {
        let (others, missing) = others(bench)?;
        contenders.extend(others);
        skipped = missing;
    }
    Ok((contenders, skipped))
}

/// The other programs that are installed here.
pub(super) fn others(bench: &Bench) -> Result<(Vec<Contender>, Vec<Skipped>)> {
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    let mut add =
        |name: &'static str, program: Option<PathBuf>, make: &dyn Fn(PathBuf) -> Contender| match program {
            Some(program) => found.push(make(program)),
            None => skipped.push((name, "not installed, and no candidate to install".to_owned())),
        };
    let go = gopacket(&bench.folder)?;
    add(YARDSTICK, go, &|program| {
        contender(
            YARDSTICK,
            "Go: tcpassembly and net/http, bodies thrown away",
            move |file, _| command(&program, &[&file.display().to_string()]),
            |finished, _| Ok(number_before(&finished.stdout()?, "responses")),
        )
    });
    add("httpry", which("httpry"), &|program| Contender {
        exact: false,
        ..contender(
            "httpry",
            "heads of single packets, no reassembly",
            move |file, folder| {
                let out = folder.join("log").display().to_string();
                command(&program, &["-q", "-r", &file.display().to_string(), "-o", &out, "tcp port 3000"])
            },
            |_, folder| {
                let log = String::from_utf8_lossy(&std::fs::read(folder.join("log"))?).into_owned();
                Ok(Some(log.lines().filter(|l| l.split('\t').nth(3) == Some("<")).count() as u64))
            },
        )
    });
    add("tcpflow", which("tcpflow"), &|program| {
        contender(
            "tcpflow",
            "reassembly to files, no HTTP",
            move |file, folder| {
                let (file, out) = (file.display().to_string(), folder.display().to_string());
                command(&program, &["-q", "-r", &file, "-o", &out, "-E", "tcpdemux"])
            },
            |_, _| Ok(None),
        )
    });
    add("suricata", which("suricata"), &|program| {
        contender(
            "suricata",
            "reassembly, libhtp, one JSON line per exchange",
            move |file, folder| {
                let conf = root().join("tests/bench/suricata.yaml").display().to_string();
                let (file, out) = (file.display().to_string(), folder.display().to_string());
                command(
                    &program,
                    &[
                        "-c",
                        &conf,
                        "-r",
                        &file,
                        "-l",
                        &out,
                        "-k",
                        "none",
                        "--runmode",
                        "single",
                        "-S",
                        "/dev/null",
                    ],
                )
            },
            |_, folder| {
                let log = String::from_utf8_lossy(&std::fs::read(folder.join("eve.json"))?).into_owned();
                Ok(Some(
                    log.lines()
                        .filter(|l| l.contains("\"event_type\":\"http\"") && l.contains("\"status\":"))
                        .count() as u64,
                ))
            },
        )
    });
    add("tshark", which("tshark"), &|program| {
        contender(
            "tshark -T fields",
            "everything, six fields of each HTTP message",
            move |file, _| {
                let mut all = command(
                    &program,
                    &["-n", "-r", &file.display().to_string(), "-d", "tcp.port==3000,http"],
                );
                all.extend(["-Y", "http", "-T", "fields"].map(OsString::from));
                for field in [
                    "frame.time_epoch",
                    "http.request.method",
                    "http.request.uri",
                    "http.host",
                    "http.response.code",
                    "http.content_length_header",
                ] {
                    all.extend(["-e", field].map(OsString::from));
                }
                all
            },
            |finished, _| {
                let lines = finished.stdout()?;
                Ok(Some(
                    lines.lines().filter(|l| l.split('\t').nth(4).is_some_and(|c| !c.is_empty())).count()
                        as u64,
                ))
            },
        )
    });
    Ok((found, skipped))
}

/// Builds the Go program; `None` without Go.
fn gopacket(folder: &Path) -> Result<Option<PathBuf>> {
    let Some(go) = which("go") else { return Ok(None) };
    let out = folder.join("gopacket-http");
    let source = root().join("tests/bench/gopacket");
    run_command(Command::new(go).current_dir(source).args(["build", "-o"]).arg(&out).arg("."))
        .context("build the gopacket program")?;
    Ok(Some(out))
}

/// The exchanges that fedisniff says it found, in its summary on standard error.
pub(super) fn our_count(finished: &Finished, _: &Path) -> Result<Option<u64>> {
    let said = finished.stderr()?;
    number_before(&said, "exchange").map(Some).with_context(|| format!("no count of exchanges in: {said}"))
}

/// The number in front of a word, written with or without separators.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let before = text.split(word).next().filter(|part| part.len() < text.len())?;
    let digits: String =
        before.split_whitespace().next_back()?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn size_below(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        size += if about.is_dir() { size_below(&entry.path())? } else { about.len() };
    }
    Ok(size)
}
