//! What watching costs while it happens: a real nginx and a real wrk in two network namespaces behind a bridge, as pods
//! on a node. In each round, one after the other: nobody watches, fedisniff does, other captures do, a reverse proxy is
//! in the path. Then the same with large bodies, and with traffic that is not selected (iperf3). Nothing leaves the
//! namespaces, which have no route to anywhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::measure::Series;
use super::traffic::federation::{Asked, document};
use super::{Bench, report};
use crate::netns::{self, inside, ip};
use crate::setup;
use crate::shell::{output, which};

/// Seconds of one measurement.
const SECONDS: u64 = 3;
const NGINX: u16 = 3000;
const PROXY: u16 = 3001;
const IPERF: u16 = 5201;
/// Octets of a large body: about a picture.
const LARGE: usize = 4 << 20;

const SURICATA: &str = include_str!("../../../tests/bench/suricata.yaml");

/// Measures.
pub(super) fn run(bench: &Bench) -> Result<String> {
    if !bench.alone {
        setup::for_live_bench()?;
    }
    let work = tempfile::Builder::new().prefix("live").tempdir_in(&bench.folder)?;
    let pods = Pods::make(work.path())?;
    let seconds = if bench.quick { 1 } else { SECONDS };
    let mut modes = modes(bench);
    let mut baseline = Figures::default();
    for round in 0..bench.runs {
        println!("live: round {} of {} …", round + 1, bench.runs);
        // The same order would give each the same neighbour.
        let offset = round % modes.len().max(1);
        modes.rotate_left(offset);
        pods.measure(bench, &Mode { name: "", what: What::Nobody }, seconds, &mut baseline)?;
        for (mode, figures) in &mut modes {
            pods.measure(bench, mode, seconds, figures)
                .with_context(|| format!("measure with {}", mode.name))?;
        }
    }
    let order = |name: &str| MODES.iter().position(|m| m.name == name);
    modes.sort_by_key(|(mode, _)| order(mode.name));
    Ok(section(&baseline, &modes, seconds, bench.runs))
}

/// Who is there beside nginx and wrk.
struct Mode {
    name: &'static str,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Nobody,
    /// fedisniff with these arguments.
    Ours(&'static [&'static str]),
    /// fedisniff that selects another port.
    NotSelected,
    Tcpdump,
    Dumpcap,
    Suricata,
    /// A proxy in the path: its program.
    Proxy(&'static str),
}

const MODES: &[Mode] = &[
    Mode { name: "fedisniff, decoding", what: What::Ours(&["--quiet"]) },
    Mode { name: "fedisniff, decoding and storing", what: What::Ours(&["--quiet", "--store", "STORE"]) },
    Mode { name: "fedisniff, traffic not selected", what: What::NotSelected },
    Mode { name: "tcpdump to /dev/null", what: What::Tcpdump },
    Mode { name: "dumpcap to a file", what: What::Dumpcap },
    Mode { name: "suricata, HTTP log", what: What::Suricata },
    Mode { name: "nginx as proxy", what: What::Proxy("nginx") },
    Mode { name: "haproxy", what: What::Proxy("haproxy") },
    Mode { name: "caddy", what: What::Proxy("caddy") },
    Mode { name: "mitmproxy", what: What::Proxy("mitmdump") },
];

fn modes(bench: &Bench) -> Vec<(&'static Mode, Figures)> {
    let there = |mode: &&Mode| match mode.what {
        What::Nobody | What::Ours(_) | What::NotSelected => true,
        _ if bench.alone => false,
        What::Tcpdump => which("tcpdump").is_some(),
        What::Dumpcap => which("dumpcap").is_some(),
        What::Suricata => which("suricata").is_some(),
        What::Proxy(program) => which(program).is_some(),
    };
    MODES.iter().filter(there).map(|mode| (mode, Figures::default())).collect()
}

/// What was measured of a mode, a figure for each round.
#[derive(Default)]
struct Figures {
    /// Median latency with one connection, microseconds.
    p50_us: Series,
    /// Requests per second with 32 connections.
    rate: Series,
    /// CPU of the watching or proxying program for a request, microseconds.
    cpu_us: Series,
    /// Of that, the thread that empties the ring buffer.
    capture_us: Series,
    /// Gbit/s of large bodies.
    large: Series,
    /// Gbit/s of iperf3.
    iperf: Series,
    /// Packets lost in all rounds with answers of 3 KB.
    lost: u64,
    /// And with large bodies and iperf3.
    lost_bulk: u64,
    /// Requests that wrk made with answers of 3 KB and fedisniff did not tell, in all rounds. Below 0: those that were
    /// under way when wrk stopped, which it does not count.
    untold: i64,
}

/// The namespaces and nginx; gone when this is dropped.
struct Pods {
    node: String,
    server: String,
    client: String,
    proxy: String,
    folder: PathBuf,
    running: Vec<Child>,
}

impl Pods {
    fn make(folder: &Path) -> Result<Self> {
        let id = std::process::id();
        let name = |what: &str| format!("fslive-{what}{id}");
        let mut pods = Self {
            node: name("n"),
            server: name("s"),
            client: name("c"),
            proxy: name("p"),
            folder: folder.to_owned(),
            running: Vec::new(),
        };
        let node = pods.node.clone();
        netns::add(&node)?;
        ip(&["-n", &node, "link", "add", "cni0", "type", "bridge"])?;
        netns::address(&node, "cni0", &["10.42.0.1/24"])?;
        for (pod, veth, address) in [
            (&pods.server, "vethserver", "10.42.0.11/24"),
            (&pods.client, "vethclient", "10.42.0.12/24"),
            (&pods.proxy, "vethproxy", "10.42.0.13/24"),
        ] {
            netns::add(pod)?;
            netns::veth((&node, veth), (pod, "eth0"))?;
            netns::address(pod, "eth0", &[address])?;
            ip(&["-n", &node, "link", "set", veth, "master", "cni0", "up"])?;
        }
        pods.files()?;
        let server = pods.server.clone();
        let config = pods.path("nginx.conf");
        pods.keep(&server, "nginx", &["-p", &pods.path(""), "-c", &config])?;
        if which("iperf3").is_some() {
            pods.keep(&server, "iperf3", &["--server", "--port", &IPERF.to_string()])?;
        }
        pods.wait_for(NGINX, "10.42.0.11")?;
        Ok(pods)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn files(&self) -> Result<()> {
        let docs = self.folder.join("docs");
        std::fs::create_dir(&docs)?;
        // An actor as servers fetch it, about 3 KB.
        std::fs::write(docs.join("actor.json"), document(Asked::Actor, 7).context("a document")?.body)?;
        std::fs::write(docs.join("large.bin"), vec![0x42_u8; LARGE])?;
        let folder = self.path("");
        let common = format!(
            "daemon off; user root; worker_processes 1; error_log {folder}error.log;\n\
             events {{ worker_connections 1024; }}\n"
        );
        let temp = |name: &str| {
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {folder}{name}-{kind};"))
                .join(" ")
        };
        let http = "access_log off; keepalive_requests 100000000; keepalive_timeout 600; sendfile on; tcp_nopush on;";
        std::fs::write(
            self.folder.join("nginx.conf"),
            format!(
                "{common}pid {folder}nginx.pid;\nhttp {{ {http} {}\n open_file_cache max=100;\n \
                 types {{ }} default_type application/activity+json;\n \
                 server {{ listen {NGINX} backlog=1024; root {folder}docs; }} }}\n",
                temp("server")
            ),
        )?;
        std::fs::write(
            self.folder.join("proxy-nginx.conf"),
            format!(
                "{common}pid {folder}proxy.pid;\nhttp {{ {http} {}\n \
                 upstream up {{ server 10.42.0.11:{NGINX}; keepalive 64; keepalive_requests 100000000; }}\n \
                 server {{ listen {PROXY}; location / {{ proxy_pass http://up; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; }} }} }}\n",
                temp("proxy")
            ),
        )?;
        // The configuration of the other benchmarks, on an interface, and saying when it has begun.
        let suricata = SURICATA.replace("default-log-level: error", "default-log-level: notice");
        std::fs::write(
            self.folder.join("suricata.yaml"),
            format!(
                "{suricata}\naf-packet:\n  - interface: vethserver\n    cluster-id: 99\n    cluster-type: cluster_flow\n    \
                 defrag: yes\n"
            ),
        )?;
        std::fs::write(
            self.folder.join("haproxy.cfg"),
            format!(
                "global\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n \
                 timeout server 60s\n http-reuse always\nfrontend in\n bind :{PROXY}\n default_backend up\n\
                 backend up\n server s 10.42.0.11:{NGINX}\n"
            ),
        )?;
        std::fs::write(
            self.folder.join("Caddyfile"),
            format!(
                "{{\n admin off\n auto_https off\n}}\nhttp://:{PROXY} {{\n reverse_proxy 10.42.0.11:{NGINX}\n}}\n"
            ),
        )?;
        Ok(())
    }

    fn spawn(&self, namespace: &str, program: &str, arguments: &[&str]) -> Result<Child> {
        let log = File::create(
            self.folder.join(format!("{}.log", Path::new(program).display()).replace('/', "_")),
        )?;
        let mut command = inside(namespace, program)?;
        // What it writes beside its work goes into the folder: caddy wants a home.
        command.args(arguments).env("HOME", &self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).spawn().with_context(|| format!("start {program}"))
    }

    fn keep(&mut self, namespace: &str, program: &str, arguments: &[&str]) -> Result<()> {
        let child = self.spawn(namespace, program, arguments)?;
        self.running.push(child);
        Ok(())
    }

    fn log_of(&self, program: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{program}.log").replace('/', "_")))
            .unwrap_or_default()
    }

    fn wait_for(&self, port: u16, address: &str) -> Result<()> {
        let url = format!("http://{address}:{port}/actor.json");
        let until = Instant::now() + Duration::from_secs(20);
        while output(inside(&self.client, "curl")?.args(["-sf", "-m", "1", "-o", "/dev/null", &url])).is_err()
        {
            ensure!(Instant::now() < until, "nobody answers at {url}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// One mode in one round.
    fn measure(&self, bench: &Bench, mode: &Mode, seconds: u64, into: &mut Figures) -> Result<()> {
        let watching = self.watch(bench, mode)?;
        let (address, port) = match mode.what {
            What::Proxy(_) => ("10.42.0.13", PROXY),
            _ => ("10.42.0.11", NGINX),
        };
        if matches!(mode.what, What::Proxy(_)) {
            self.wait_for(port, address)?;
        }
        let base = format!("http://{address}:{port}");
        let one = self.wrk(1, seconds, &format!("{base}/actor.json"))?;
        into.p50_us.push(one.p50_us);
        let before = watching.as_ref().map(|w| w.cpu()).transpose()?;
        let many = self.wrk(32, seconds, &format!("{base}/actor.json"))?;
        into.rate.push(many.rate);
        // What waits in buffers is paid for as well.
        std::thread::sleep(Duration::from_millis(300));
        if let (Some(watching), Some((cpu, capture))) = (&watching, before) {
            let (cpu_after, capture_after) = watching.cpu()?;
            into.cpu_us.push((cpu_after - cpu) * 1e6 / many.requests.max(1) as f64);
            into.capture_us.push((capture_after - capture) * 1e6 / many.requests.max(1) as f64);
        }
        // What is lost now is another matter than what is lost with bulk.
        if let Some(watching) = watching {
            let requests = one.requests + many.requests;
            let said = watching.stop()?;
            into.lost += said.lost;
            if let Some(told) = said.exchanges {
                into.untold += i64::try_from(requests)? - i64::try_from(told)?;
            }
        }
        let watching = self.watch(bench, mode)?;
        if matches!(mode.what, What::Proxy(_)) {
            self.wait_for(port, address)?;
        }
        let large = self.wrk(4, seconds, &format!("{base}/large.bin"))?;
        into.large.push(large.rate * LARGE as f64 * 8.0 / 1e9);
        if !matches!(mode.what, What::Proxy(_)) && which("iperf3").is_some() {
            into.iperf.push(self.iperf(seconds)?);
        }
        if let Some(watching) = watching {
            into.lost_bulk += watching.stop()?.lost;
        }
        Ok(())
    }

    fn watch(&self, bench: &Bench, mode: &Mode) -> Result<Option<Watching<'_>>> {
        let ours = bench.fedisniff.display().to_string();
        let store = self.path("live.redb");
        let _ = std::fs::remove_file(&store);
        let dumped = self.path("dumpcap.pcapng");
        let suricata = self.path("suricata");
        let _ = std::fs::create_dir(&suricata);
        let rules = self.path("suricata.yaml");
        let mitm = format!("reverse:http://10.42.0.11:{NGINX}");
        let listen = PROXY.to_string();
        let (haproxy, caddy, nginx) =
            (self.path("haproxy.cfg"), self.path("Caddyfile"), self.path("proxy-nginx.conf"));
        let folder = self.path("");
        let (namespace, program, arguments, ready): (&str, &str, Vec<&str>, &str) = match mode.what {
            What::Nobody => return Ok(None),
            What::Ours(arguments) => {
                let mut all = vec!["watch"];
                all.extend(arguments.iter().map(|a| if *a == "STORE" { store.as_str() } else { a }));
                (&self.node, &ours, all, "Watching")
            }
            What::NotSelected => (&self.node, &ours, vec!["watch", "--quiet", "--ports", "1"], "Watching"),
            What::Tcpdump => (
                &self.node,
                "tcpdump",
                // As much buffer as fedisniff's ring.
                vec!["-i", "vethserver", "-B", "32768", "-s", "0", "-Z", "root", "-w", "/dev/null", "tcp"],
                "listening on",
            ),
            What::Dumpcap => (
                &self.node,
                "dumpcap",
                vec!["-i", "vethserver", "-B", "32", "-w", &dumped, "-b", "filesize:500000", "-b", "files:2"],
                "File: ",
            ),
            What::Suricata => (
                &self.node,
                "suricata",
                vec!["-c", &rules, "-i", "vethserver", "-l", &suricata, "-k", "none", "--runmode", "single"],
                "ngine started",
            ),
            What::Proxy("nginx") => (&self.proxy, "nginx", vec!["-p", &folder, "-c", &nginx], ""),
            What::Proxy("haproxy") => (&self.proxy, "haproxy", vec!["-f", &haproxy], ""),
            What::Proxy("caddy") => {
                (&self.proxy, "caddy", vec!["run", "--adapter", "caddyfile", "--config", &caddy], "")
            }
            What::Proxy(program) => {
                (&self.proxy, program, vec!["--quiet", "--mode", &mitm, "--listen-port", &listen], "")
            }
        };
        let child = self.spawn(namespace, program, &arguments)?;
        let watching =
            Watching { child: Some(child), pods: self, program: program.to_owned(), what: mode.what };
        let until = Instant::now() + Duration::from_secs(60);
        while !self.log_of(program).contains(ready) {
            ensure!(Instant::now() < until, "{program} did not start: {}", self.log_of(program));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(watching))
    }

    fn wrk(&self, connections: u32, seconds: u64, url: &str) -> Result<Load> {
        let text = output(inside(&self.client, "wrk")?.args([
            "-t",
            "1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "--latency",
            url,
        ]))?;
        Load::parse(&text).with_context(|| format!("wrk said: {text}"))
    }

    /// Gbit/s.
    fn iperf(&self, seconds: u64) -> Result<f64> {
        let (port, seconds) = (IPERF.to_string(), seconds.to_string());
        let text = output(inside(&self.client, "iperf3")?.args([
            "--client",
            "10.42.0.11",
            "--port",
            &port,
            "--time",
            &seconds,
            "--json",
        ]))?;
        let json: serde_json::Value = serde_json::from_str(&text).context("read what iperf3 said")?;
        let bits = json.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
        Ok(bits.with_context(|| format!("iperf3 said: {text}"))? / 1e9)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for child in &mut self.running {
            stop(child, Signal::SIGTERM);
        }
        for name in [&self.client, &self.proxy, &self.server, &self.node] {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("bench: {error:#}");
            }
        }
    }
}

fn stop(child: &mut Child, signal: Signal) {
    if let Ok(None) = child.try_wait()
        && let Ok(pid) = i32::try_from(child.id())
    {
        let _ = kill(Pid::from_raw(pid), signal);
        let until = Instant::now() + Duration::from_secs(20);
        while let (Ok(None), true) = (child.try_wait(), Instant::now() < until) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A program that watches or proxies; stopped when this is dropped.
struct Watching<'a> {
    child: Option<Child>,
    pods: &'a Pods,
    program: String,
    what: What,
}

/// What a watching program said at its end.
#[derive(Default)]
struct Said {
    lost: u64,
    exchanges: Option<u64>,
}

impl Watching<'_> {
    /// Seconds of CPU that it and its children have used, and of that the thread that reads packets.
    fn cpu(&self) -> Result<(f64, f64)> {
        let child = self.child.as_ref().context("it was stopped")?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")? as f64;
        let of = |stat: &str| -> f64 {
            // The second field is a name in parentheses, which may hold anything; utime and stime are the 14th and 15th.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>()
                / ticks
        };
        let (mut all, mut capture) = (0.0, 0.0);
        for pid in descendants(child.id())? {
            all += of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                if name.starts_with("fedisniff-captu") {
                    capture += of(&std::fs::read_to_string(task.path().join("stat")).unwrap_or_default());
                }
            }
        }
        Ok((all, capture))
    }

    fn stop(mut self) -> Result<Said> {
        if let Some(mut child) = self.child.take() {
            stop(&mut child, if self.what == What::Suricata { Signal::SIGTERM } else { Signal::SIGINT });
        }
        let text = self.pods.log_of(&self.program);
        let number_before = |mark: &str| -> Option<u64> {
            let at = text.find(mark)?;
            text[..at].rsplit(|c: char| !c.is_ascii_digit()).find(|n| !n.is_empty())?.parse().ok()
        };
        Ok(match self.what {
            What::Ours(_) | What::NotSelected => {
                let Some(lost) = number_before(" lost (") else { bail!("fedisniff said: {text}") };
                let dropped = text
                    .split_once("decoding was too slow: ")
                    .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
                    .unwrap_or(0);
                let told = number_before(" exchanges in ").filter(|_| self.what != What::NotSelected);
                Said { lost: lost + dropped, exchanges: told }
            }
            What::Tcpdump => {
                Said { lost: number_before(" packets dropped by kernel").unwrap_or(0), exchanges: None }
            }
            // `Packets received/dropped on interface 'veth': 10/2 (…`
            What::Dumpcap => Said {
                lost: text
                    .rsplit_once("received/dropped")
                    .and_then(|(_, rest)| rest.split_once('/')?.1.split([' ', ')']).next()?.parse().ok())
                    .unwrap_or(0),
                exchanges: None,
            },
            What::Suricata => Said {
                lost: text
                    .lines()
                    .filter_map(|l| l.split_once("drops: ")?.1.split([' ', '(']).next()?.parse::<u64>().ok())
                    .sum(),
                exchanges: None,
            },
            What::Proxy(_) | What::Nobody => Said::default(),
        })
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            stop(child, Signal::SIGTERM);
        }
    }
}

/// A process and its children: nginx works in one.
fn descendants(pid: u32) -> Result<Vec<u32>> {
    let text = output(Command::new("ps").args(["-e", "-o", "pid=,ppid="]))?;
    let pairs: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(|f| f.parse().ok());
            Some((fields.next()??, fields.next()??))
        })
        .collect();
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        all.extend(pairs.iter().filter(|(_, p)| *p == parent).map(|(child, _)| *child));
        at += 1;
    }
    Ok(all)
}

/// What wrk measured.
struct Load {
    requests: u64,
    rate: f64,
    p50_us: f64,
}

impl Load {
    fn parse(text: &str) -> Option<Self> {
        let p50 = text.lines().find_map(|l| l.trim().strip_prefix("50%"))?.trim();
        let unit = p50.find(|c: char| c.is_ascii_alphabetic())?;
        let factor = match &p50[unit..] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            _ => return None,
        };
        let requests =
            text.lines().find_map(|l| l.trim().split_once(" requests in ")?.0.trim().parse().ok())?;
        let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")?.trim().parse().ok())?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return None;
        }
        Some(Self { requests, rate, p50_us: p50[..unit].parse::<f64>().ok()? * factor })
    }
}

fn section(baseline: &Figures, modes: &[(&Mode, Figures)], seconds: u64, runs: usize) -> String {
    let ratio = |ours: &Series, base: &Series| {
        let (ours, base) = (ours.median(), base.median());
        if ours.is_finite() && base > 0.0 { format!("{:.2}", ours / base) } else { "–".to_owned() }
    };
    let figure = |series: &Series, digits: usize| {
        let median = series.median();
        if median.is_finite() { format!("{median:.digits$}") } else { "–".to_owned() }
    };
    let mut rows = vec![vec![
        "nobody".to_owned(),
        baseline.p50_us.show(),
        "1".to_owned(),
        format!("{:.0}", baseline.rate.median()),
        "1".to_owned(),
        String::new(),
        String::new(),
        figure(&baseline.large, 1),
        figure(&baseline.iperf, 1),
        String::new(),
        String::new(),
    ]];
    for (mode, figures) in modes {
        rows.push(vec![
            mode.name.to_owned(),
            figures.p50_us.show(),
            ratio(&figures.p50_us, &baseline.p50_us),
            figure(&figures.rate, 0),
            ratio(&figures.rate, &baseline.rate),
            figure(&figures.cpu_us, 1),
            if figures.capture_us.median() > 0.0 { figure(&figures.capture_us, 1) } else { String::new() },
            ratio(&figures.large, &baseline.large),
            ratio(&figures.iperf, &baseline.iperf),
            match mode.what {
                What::Proxy(_) => String::new(),
                What::Ours(_) => {
                    format!("{} packets, {} exchanges untold", figures.lost, figures.untold.max(0))
                }
                _ => format!("{} packets", figures.lost),
            },
            match mode.what {
                What::Proxy(_) => String::new(),
                _ => figures.lost_bulk.to_string(),
            },
        ]);
    }
    format!(
        "## Live\n\n`cargo xtask bench live`: nginx and wrk as two pods behind a bridge, {runs} interleaved rounds of \
         {seconds} s for each figure; medians. Ratios are to nobody watching in the same run. CPU is that of the program \
         alone, for a request of wrk with 32 connections (an answer of about 3 KB); of fedisniff's also the share of the \
         thread that empties the ring buffer. Large: bodies of {} MiB. iperf3 is not HTTP: fedisniff leaves it out after \
         its first octets.\n\n{}",
        LARGE >> 20,
        report::table(
            &[
                "who",
                "p50 µs, 1 connection",
                "ratio",
                "requests/s, 32 connections",
                "ratio",
                "CPU µs a request",
                "of it capture",
                "large: Gbit/s, ratio",
                "iperf3: Gbit/s, ratio",
                "lost in all rounds, answers of 3 KB",
                "lost packets, bulk"
            ],
            &rows
        )
    )
}

#[cfg(test)]
mod tests {
    use super::Load;

    #[test]
    fn what_wrk_says_is_read_and_what_failed_is_no_figure() {
        let text = "Running 2s test @ http://10.42.0.11:3000/actor.json\n  Latency Distribution\n     50%   89.00us\n     \
                    75%    1.02ms\n  42123 requests in 2.00s, 140.55MB read\nRequests/sec:  21061.42\n";
        let load = Load::parse(text).expect("figures");
        assert_eq!((load.requests, load.rate, load.p50_us), (42_123, 21_061.42, 89.0));
        assert!(Load::parse(&format!("{text}Non-2xx or 3xx responses: 7\n")).is_none());
        assert!(Load::parse("unable to connect").is_none());
    }
}
