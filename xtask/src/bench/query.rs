//! The viewer's API over a store of a million exchanges: how long a page and a single exchange take over HTTP on the
//! loopback, one request at a time on one connection.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::measure::{Running, Series, command};
use super::traffic::federation::Random;
use super::traffic::genpcap::{KeepAlive, keep_alive};
use super::traffic::pcap::Writer;
use super::{Bench, report};

/// Requests of each kind.
const REQUESTS: usize = 400;

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    let exchanges = if bench.quick { 20_000 } else { 1_000_000 };
    let store = store(bench, exchanges)?;
    let mut server = Server::start(bench, &store)?;
    let ids = ids(&mut server, exchanges)?;
    let mut random = Random(5);
    let pick = |list: &[String], random: &mut Random| list[random.below(list.len() as u64) as usize].clone();
    let mut rows = Vec::new();
    let actor =
        |random: &mut Random| format!("https://srv3.fediverse.test/users/a{}", random.below(50) * 8 + 3);
    type Question<'a> = (&'static str, f64, Box<dyn FnMut(&mut Random) -> String + 'a>);
    let questions: Vec<Question<'_>> = vec![
        ("one by id", 2.0, Box::new(|r| format!("api/exchanges/{}", pick(&ids, r)))),
        ("newest 50", 5.0, Box::new(|_| "api/exchanges?limit=50".to_owned())),
        ("50 before any", 5.0, Box::new(|r| format!("api/exchanges?limit=50&before={}", pick(&ids, r)))),
        ("50 around any", 5.0, Box::new(|r| format!("api/exchanges?limit=50&around={}", pick(&ids, r)))),
        (
            "50 by actor",
            5.0,
            Box::new(|r| {
                format!(
                    "api/exchanges?limit=50&q={}",
                    encoded(&format!("activity.actor == \"{}\"", actor(r)))
                )
            }),
        ),
        (
            "50 by host and type",
            5.0,
            Box::new(|r| {
                let text = format!(
                    "request.host == \"srv{}.fediverse.test\" && activity.type == \"Follow\"",
                    r.below(8)
                );
                format!("api/exchanges?limit=50&q={}", encoded(&text))
            }),
        ),
        ("status", 5.0, Box::new(|_| "api/status".to_owned())),
        ("hosts", 5.0, Box::new(|_| "api/hosts".to_owned())),
        ("strip", 50.0, Box::new(|_| "api/strip".to_owned())),
    ];
    for (name, aim, mut question) in questions {
        let mut series = Series::default();
        for number in 0..REQUESTS {
            let path = question(&mut random);
            let started = Instant::now();
            let answer = server.get(&path)?;
            let took = started.elapsed().as_secs_f64() * 1e3;
            if number == 0 {
                let rows = answer["rows"].as_array().map(Vec::len);
                ensure!(rows != Some(0), "{name}: no rows for {path}");
            }
            series.push(took);
        }
        rows.push(vec![
            name.to_owned(),
            format!("{:.2}", series.percentile(0.5)),
            format!("{:.2}", series.percentile(0.99)),
            format!("{aim}"),
        ]);
    }
    let size = store.metadata()?.len();
    Ok(format!(
        "## Queries\n\n`cargo xtask bench query`: {exchanges} exchanges in a store of {:.0} MB, {REQUESTS} requests of each \
         kind over HTTP on the loopback.\n\n{}",
        size as f64 / 1e6,
        report::table(&["what", "p50 ms", "p99 ms", "aim, p99 ms"], &rows)
    ))
}

/// A store with that many exchanges, made now or by an earlier run.
fn store(bench: &Bench, exchanges: u64) -> Result<PathBuf> {
    let file = bench.folder.join(format!("query-{exchanges}.redb"));
    let stamp = file.with_extension("done");
    // A store of another build may have another format.
    let build = format!("{:?}", bench.fedisniff.metadata()?.modified()?);
    if file.exists() && std::fs::read_to_string(&stamp).is_ok_and(|s| s == build) {
        return Ok(file);
    }
    println!("making {} …", file.display());
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    let mut all = command(&bench.fedisniff, &["read", "-", "--quiet", "--store"]);
    all.push(file.clone().into());
    let mut running = Running::start(&all, Stdio::piped())?;
    let input = running.input().context("its standard input")?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, input))?;
    keep_alive(KeepAlive { connections: 64, exchanges, seed: 9 }, &mut writer)?;
    writer.into_inner().flush()?;
    let cost = running.finish()?.cost;
    println!("stored {exchanges} exchanges in {:.0} s of CPU, {:.0} MiB at most", cost.cpu_s, cost.rss_mib);
    std::fs::write(&stamp, build)?;
    Ok(file)
}

/// Ids spread over the whole store.
fn ids(server: &mut Server, exchanges: u64) -> Result<Vec<String>> {
    let status = server.get("api/status")?;
    let stored = status["store"]["exchanges"].as_u64();
    ensure!(
        stored.is_some_and(|n| n * 100 >= exchanges * 99),
        "the store has {stored:?} exchanges of {exchanges}"
    );
    let time =
        |name: &str| status["store"][name].as_str().map(str::to_owned).context("no times in the status");
    let (oldest, newest) = (time("oldest")?, time("newest")?);
    let mut ids = Vec::new();
    let mut page =
        server.get(&format!("api/exchanges?v=all&oldest=1&limit=1000&from={oldest}&to={newest}"))?;
    for _ in 0..40 {
        let rows = page["rows"].as_array().cloned().unwrap_or_default();
        let found: Vec<String> = rows.iter().filter_map(|r| r["id"].as_str().map(str::to_owned)).collect();
        let Some(last) = found.last().cloned() else { break };
        ids.extend(found);
        page = server.get(&format!("api/exchanges?v=all&limit=1000&after={last}"))?;
    }
    let newest = server.get("api/exchanges?v=all&limit=1000")?;
    ids.extend(
        newest["rows"].as_array().into_iter().flatten().filter_map(|r| r["id"].as_str().map(str::to_owned)),
    );
    ensure!(!ids.is_empty(), "the store shows no exchange");
    Ok(ids)
}

/// Everything but letters and digits, percent-encoded.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The viewer over a store, and a connection to it.
struct Server {
    child: Child,
    address: SocketAddr,
    connection: BufReader<TcpStream>,
}

impl Server {
    fn start(bench: &Bench, store: &Path) -> Result<Self> {
        // A port that was free a moment ago: nobody else on this machine's loopback asks for one just now.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = bench.folder.join("serve.log");
        let mut child = Command::new(&bench.fedisniff)
            .args(["serve", "--serve", &address.to_string(), "--store"])
            .arg(store)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(&log)?)
            .spawn()
            .context("start fedisniff serve")?;
        let begin = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(address) {
                stream.set_nodelay(true)?;
                return Ok(Self { child, address, connection: BufReader::new(stream) });
            }
            if child.try_wait()?.is_some() || begin.elapsed() > Duration::from_secs(30) {
                bail!("fedisniff serve did not start: {}", std::fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks on the one connection and waits for the whole answer, which is JSON.
    fn get(&mut self, path: &str) -> Result<Value> {
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n", self.address);
        self.connection.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut chunked) = (String::new(), 0, false);
        self.connection.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let mut line = String::new();
                self.connection.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).context("a chunk's size")?;
                let begin = body.len();
                body.resize(begin + size + 2, 0);
                self.connection.read_exact(&mut body[begin..])?;
                body.truncate(begin + size);
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            self.connection.read_exact(&mut body)?;
        }
        ensure!(
            status.contains(" 200 "),
            "GET /{path}: {}: {}",
            status.trim(),
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).with_context(|| format!("GET /{path} did not answer with JSON"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It only reads; nothing is lost when it is killed.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
