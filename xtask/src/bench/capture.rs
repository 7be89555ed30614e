//! The capture that is measured on: a real nginx and a real wrk in two network namespaces, 64 keep-alive connections
//! over a veth with offloads off, tcpdump on the server's end. nginx's access log is the truth about how many
//! exchanges there are. Nothing leaves the namespaces, which have no route to anywhere.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::traffic::federation::{ACTORS, Asked, NOTES, delivery, delivery_head, document, fetch_head};
use super::traffic::genpcap::{KeepAlive, keep_alive};
use super::traffic::intact::Truth;
use super::traffic::pcap::Writer;
use crate::netns::{self, inside, ip};
use crate::shell::run as run_command;

/// A capture to measure on, and what is in it.
pub(super) struct Capture {
    pub(super) file: PathBuf,
    pub(super) facts: Facts,
}

/// What is known of a capture without the programs that are measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Exchanges with an answer.
    pub(super) exchanges: u64,
    /// Requests, answered or not.
    pub(super) requests: u64,
    pub(super) records: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes of TCP payload.
    pub(super) payload: u64,
    /// How it was made.
    pub(super) made: String,
}

impl Facts {
    /// One line for the report.
    pub(super) fn line(&self) -> String {
        format!(
            "{:.0} MB, {} packets, {} exchanges ({})",
            self.bytes as f64 / 1e6,
            self.records,
            self.exchanges,
            self.made
        )
    }
}

/// The file stops growing at this size.
const WANTED: u64 = 640_000_000;
const CONNECTIONS: u16 = 64;
const PORT: u16 = 3000;
/// Deliveries that differ in more than their ids.
const DELIVERIES: u64 = 2_000;

/// The capture, made now or by an earlier run.
pub(super) fn get(bench: &Bench) -> Result<Capture> {
    let name = if bench.quick {
        "quick"
    } else if bench.synthetic {
        "synthetic"
    } else {
        "keepalive-mtu"
    };
    let (file, about) =
        (bench.folder.join(format!("{name}.pcap")), bench.folder.join(format!("{name}.json")));
    if let (Ok(text), true) = (std::fs::read(&about), file.exists()) {
        let facts: Facts =
            serde_json::from_slice(&text).with_context(|| format!("read {}", about.display()))?;
        return Ok(Capture { file, facts });
    }
    println!("making {} …", file.display());
    let made = if bench.synthetic { synthetic(bench, &file)? } else { real(bench, &file)? };
    let truth = truth(&file)?;
    let facts = Facts {
        exchanges: truth.answered(),
        requests: truth.exchanges.len() as u64,
        records: u64::from(truth.records),
        bytes: file.metadata()?.len(),
        payload: truth.payload,
        made,
    };
    std::fs::write(&about, serde_json::to_vec_pretty(&facts)?)?;
    println!("made {}", facts.line());
    Ok(Capture { file, facts })
}

/// The truth about the capture.
pub(super) fn truth(file: &Path) -> Result<Truth> {
    let from = BufReader::with_capacity(1 << 20, File::open(file)?);
    Truth::read(from).with_context(|| format!("read the truth about {}", file.display()))
}

fn synthetic(bench: &Bench, file: &Path) -> Result<String> {
    let exchanges = if bench.quick { 20_000 } else { 190_000 };
    let to = std::io::BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut writer = Writer::new(to)?;
    keep_alive(KeepAlive { connections: CONNECTIONS, exchanges, seed: 1 }, &mut writer)?;
    std::io::Write::flush(&mut writer.into_inner())?;
    Ok("made up from a seed".to_owned())
}

/// The two namespaces; they, and all that runs in them, are gone when this is dropped.
struct Namespaces {
    server: String,
    client: String,
    running: Vec<Child>,
}

impl Namespaces {
    fn make() -> Result<Self> {
        let id = std::process::id();
        let made =
            Self { server: format!("fsbench-s{id}"), client: format!("fsbench-c{id}"), running: Vec::new() };
        let (s, c) = (made.server.as_str(), made.client.as_str());
        for name in [s, c] {
            netns::add(name)?;
        }
        netns::veth((s, "veth-server"), (c, "veth-client"))?;
        for (name, veth, address) in [(s, "veth-server", "10.77.0.1/24"), (c, "veth-client", "10.77.0.2/24")]
        {
            netns::address(name, veth, &[address])?;
            // MTU-sized frames, as on a wire: no super-packets.
            let off = ["tso", "off", "gso", "off", "gro", "off"];
            run_command(inside(name, "ethtool")?.args(["-K", veth]).args(off).stdout(Stdio::null()))?;
        }
        Ok(made)
    }

    /// Starts a program in the server's namespace; its last words go to `log`.
    fn serve(&mut self, program: &str, arguments: &[&str], log: &Path) -> Result<usize> {
        let said = File::create(log)?;
        let mut command = inside(&self.server, program)?;
        command.args(arguments).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        self.running.push(command.spawn().with_context(|| format!("start {program}"))?);
        Ok(self.running.len() - 1)
    }

    /// Asks a program to stop, and waits for it.
    fn stop(&mut self, which: usize, signal: Signal) -> Result<()> {
        let child = &mut self.running[which];
        if child.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for which in 0..self.running.len() {
            if let Err(error) = self.stop(which, Signal::SIGTERM) {
                eprintln!("bench: {error:#}");
            }
        }
        for name in [&self.server, &self.client] {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("bench: {error:#}");
            }
        }
    }
}

fn real(bench: &Bench, file: &Path) -> Result<String> {
    let work = tempfile::Builder::new().prefix("traffic").tempdir_in(&bench.folder)?;
    let at = |name: &str| work.path().join(name);
    let path = |name: &str| at(name).display().to_string();
    std::fs::create_dir(at("docs"))?;
    documents(&at("docs"))?;
    std::fs::write(at("nginx.conf"), nginx_conf(&work.path().display().to_string()))?;
    std::fs::write(at("requests.lua"), requests_lua()?)?;
    std::fs::write(at("wrk.lua"), WRK_LUA)?;

    let mut net = Namespaces::make()?;
    let nginx = net.serve("nginx", &["-p", &path(""), "-c", &path("nginx.conf")], &at("nginx.log"))?;
    let part = file.with_extension("part");
    let dump = [
        "-i",
        "veth-server",
        "-B",
        "262144",
        "-s",
        "0",
        "-Z",
        "root",
        "-w",
        &part.display().to_string(),
        "tcp",
    ];
    let tcpdump = net.serve("tcpdump", &dump, &at("tcpdump.log"))?;
    let begin = Instant::now();
    while !log(&at("tcpdump.log")).contains("listening on") {
        ensure!(
            begin.elapsed() < Duration::from_secs(20),
            "tcpdump did not start: {}",
            log(&at("tcpdump.log"))
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = format!("http://10.77.0.1:{PORT}/");
    let mut wrk = inside(&net.client, "wrk")?;
    wrk.args(["-t", "2", "-c", &CONNECTIONS.to_string(), "-d", "300s", "-s", &path("wrk.lua"), &url, "--"]);
    wrk.arg(at("requests.lua")).stdin(Stdio::null()).stdout(File::create(at("wrk.log"))?);
    let mut wrk = wrk.spawn().context("start wrk")?;
    // `ip netns exec` becomes the program, so the signal reaches wrk itself, which then ends in good order.
    loop {
        std::thread::sleep(Duration::from_millis(20));
        if wrk.try_wait()?.is_some() {
            bail!(
                "wrk ended before the capture was large enough: {} {}",
                log(&at("wrk.log")),
                log(&at("nginx.log"))
            );
        }
        if part.metadata().map_or(0, |m| m.len()) >= WANTED {
            break;
        }
    }
    kill(Pid::from_raw(i32::try_from(wrk.id())?), Signal::SIGINT)?;
    wrk.wait()?;
    // tcpdump drops what is left in its ring when it is stopped: wait until it has written everything.
    let mut size = 0;
    while size != part.metadata()?.len() {
        size = part.metadata()?.len();
        std::thread::sleep(Duration::from_secs(1));
    }
    net.stop(tcpdump, Signal::SIGINT)?;
    net.stop(nginx, Signal::SIGQUIT)?;
    drop(net);
    let said = log(&at("tcpdump.log"));
    ensure!(said.contains("0 packets dropped by kernel"), "tcpdump lost packets; run again: {said}");
    let access = std::fs::read_to_string(at("access.log")).context("read nginx's access log")?;
    // 499: the client had gone before it was answered.
    let answered = access.lines().filter(|l| l.split(' ').nth(2) != Some("499")).count() as u64;
    let bad = access.lines().filter(|l| !matches!(l.split(' ').nth(2), Some("200" | "202" | "499"))).count();
    ensure!(bad == 0, "nginx refused {bad} requests");
    let truth = truth(&part)?;
    let found = truth.answered();
    // Each connection may end with a request that wrk no longer waited for, and nginx logged as answered.
    ensure!(
        answered.abs_diff(found) <= u64::from(CONNECTIONS),
        "nginx logged {answered} exchanges, the capture has {found}"
    );
    std::fs::rename(&part, file)?;
    Ok(format!("nginx and wrk over a veth, {CONNECTIONS} keep-alive connections; nginx's log has {answered}"))
}

fn log(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

fn documents(folder: &Path) -> Result<()> {
    for number in 0..ACTORS {
        for (asked, name) in [
            (Asked::Actor, format!("actor-a{number}")),
            (Asked::Outbox, format!("outbox-a{number}")),
            (Asked::WebFinger, format!("wf-{number}")),
        ] {
            let document = document(asked, number).context("a document")?;
            let name = match document.target.split_once("resource=") {
                Some((_, resource)) => format!("wf-{resource}"),
                None => name,
            };
            std::fs::write(folder.join(name + ".json"), document.body)?;
        }
    }
    for number in 0..NOTES {
        let document = document(Asked::Note, number).context("a note")?;
        std::fs::write(folder.join(format!("note-{number}.json")), document.body)?;
    }
    Ok(())
}

fn nginx_conf(folder: &str) -> String {
    format!(
        r#"# Made by `cargo xtask bench`: a fediverse server as far as a listener can tell.
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format truth '$request_method $request_uri $status $request_length $body_bytes_sent $http_x_request_id';
  access_log {folder}/access.log truth buffer=1m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000; keepalive_timeout 600; client_body_buffer_size 64k;
  types {{ }} default_type "application/activity+json; charset=utf-8";
  sendfile on; tcp_nopush on; gzip off; open_file_cache max=4000;
  server {{
    listen {PORT} backlog=1024; root {folder}/docs;
    add_header X-Request-Id $http_x_request_id always;
    location = /inbox {{ return 202; }}
    location = /.well-known/webfinger {{
      default_type "application/jrd+json; charset=utf-8"; try_files /wf-$arg_resource.json =404;
    }}
    location ~ "^/users/(\w+)/outbox$" {{ gzip on; gzip_comp_level 1; gzip_types *; try_files /outbox-$1.json =404; }}
    location ~ "^/users/\w+/statuses/(\d+)$" {{ try_files /note-$1.json =404; }}
    location ~ "^/users/(\w+)$" {{ try_files /actor-$1.json =404; }}
  }}
}}
"#
    )
}

/// The requests as Lua tables: heads of fetches, and deliveries in the pieces between which the id, the digest and the
/// signature go.
fn requests_lua() -> Result<String> {
    let quoted = |text: &str| format!("[==[\n{text}]==]");
    let mut lua = String::from(
        "requests = { deliveries = {}, actors = {}, notes = {}, webfingers = {}, outboxes = {} }\n",
    );
    for (table, asked, count) in [
        ("actors", Asked::Actor, ACTORS),
        ("notes", Asked::Note, NOTES),
        ("webfingers", Asked::WebFinger, ACTORS),
        ("outboxes", Asked::Outbox, ACTORS),
    ] {
        for number in 0..count {
            let document = document(asked, number).context("a document")?;
            let head = fetch_head(&document).replace("\r\n", "\n");
            writeln!(lua, "table.insert(requests.{table}, {})", quoted(&head))?;
        }
    }
    for number in 0..DELIVERIES {
        let delivery = delivery(number);
        let length = delivery.before.len() + ID_LENGTH + delivery.after.len();
        let head = delivery_head(&delivery, length, "@D@", "@S@").replace("\r\n", "\n");
        let pieces: Vec<&str> = head.split("@D@").flat_map(|part| part.split("@S@")).collect();
        ensure!(pieces.len() == 3, "a delivery's head has a digest and a signature");
        let parts = [pieces[0], pieces[1], pieces[2], &delivery.before, &delivery.after].map(quoted);
        writeln!(lua, "table.insert(requests.deliveries, {{{}}})", parts.join(", "))?;
    }
    Ok(lua)
}

/// Characters of a request's id, as `wrk.lua` writes it.
const ID_LENGTH: usize = 10;

const WRK_LUA: &str = include_str!("../../../tests/bench/wrk.lua");
