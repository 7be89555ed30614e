//! What runs in the lab: a private certificate authority's one certificate, DNS, Traefik, two Fedify servers, a client.
//! Each is started in its namespace, outlives this program, and writes what it says to a file of its own.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Backend;
use super::control::{Control, socket};
use super::net::{GATEWAY, Names, PODS};
use super::tools::Tools;
use crate::shell::{output, shown, tail, which};

/// A fediverse server: its pod, its one account, and in what the two differ.
pub(super) struct Server {
    pub(super) pod: &'static str,
    pub(super) user: &'static str,
    pub(super) software: &'static str,
    /// The content coding it gives to those who take any.
    coding: &'static str,
    /// With which signatures it tries first.
    knock: &'static str,
}

pub(super) const SERVERS: &[Server] = &[
    Server { pod: "fed1", user: "fred", software: "harbour", coding: "br", knock: "rfc9421" },
    Server {
        pod: "fed2",
        user: "wilma",
        software: "lantern",
        coding: "gzip",
        knock: "draft-cavage-http-signatures-12",
    },
];

/// Starting on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    pub(super) fn host(&self) -> String {
        host(self.pod)
    }

    pub(super) fn actor(&self) -> String {
        format!("https://{}/users/{}", self.host(), self.user)
    }
}

fn host(pod: &str) -> String {
    format!("{pod}.fediverse.test")
}

/// Where a lab's things are.
pub(super) struct Folders {
    /// Logs and configuration, below `target`.
    pub(super) logs: PathBuf,
    /// Sockets: a short path, for a socket's has 107 octets at most.
    pub(super) run: PathBuf,
}

impl Folders {
    pub(super) fn server_log(&self, pod: &str) -> PathBuf {
        self.logs.join(format!("{pod}.server.jsonl"))
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.logs.join("access.jsonl")
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.logs.join("ca.pem")
    }
}

/// A program that was started.
struct Running {
    name: &'static str,
    child: Child,
    said: PathBuf,
}

/// Starts all, and waits until a request gets through; gives the processes' ids.
pub(super) fn start(
    names: &Names,
    folders: &Folders,
    tools: &Tools,
    backend: Backend,
    ipv6: bool,
) -> Result<Vec<u32>> {
    certificate(folders)?;
    let mut running = vec![dns(names, folders)?, proxy(names, folders, tools, backend, ipv6)?];
    for server in SERVERS {
        running.push(fedify(names, folders, tools, server)?);
    }
    let arguments = ["client.mjs".into(), format!("--control={}", socket(&folders.run, "client").display())];
    running.push(node(names, folders, tools, "client", &arguments)?);

    let begin = Instant::now();
    for pod in PODS.iter().filter(|pod| pod.name != "ingress") {
        while Control::connect(&folders.run, pod.name).is_err() {
            wait(&mut running, begin, pod.name)?;
        }
    }
    let mut client = Control::connect(&folders.run, "client")?;
    for server in SERVERS {
        let ready = json!({"do": "fetch", "url": format!("https://{}/ready", server.host()), "alone": true});
        loop {
            let last = match client.ask(&ready) {
                Ok(answer) if answer["status"] == 200 => break,
                Ok(answer) => answer.to_string(),
                Err(error) => format!("{error:#}"),
            };
            wait(&mut running, begin, server.pod).with_context(|| format!("the last try: {last}"))?;
        }
    }
    // `setsid` and `ip netns exec` become the program that they start: it has their id.
    Ok(running.iter().map(|one| one.child.id()).collect())
}

/// A moment's sleep; an error when a program has ended or too much time is gone.
fn wait(running: &mut [Running], begin: Instant, awaited: &str) -> Result<()> {
    for one in &mut *running {
        if let Some(status) = one.child.try_wait()? {
            bail!("{} ended ({status}); its last words:\n{}", one.name, tail(&one.said));
        }
    }
    if begin.elapsed() > PATIENCE {
        let said: String =
            running.iter().map(|one| format!("\n-- {}:\n{}", one.name, tail(&one.said))).collect();
        bail!("{awaited} was not ready within {} s; last words:{said}", PATIENCE.as_secs());
    }
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// Starts a program in a pod's (or the node's) namespace. It gets a session of its own, so that neither Ctrl-C nor the
/// terminal's end reaches it, and none of the caller's environment.
fn spawn(
    names: &Names,
    folders: &Folders,
    name: &'static str,
    at: &str,
    program: &Path,
    prepare: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<Running> {
    let said = folders.logs.join(format!("{name}.log"));
    let file = File::create(&said).with_context(|| format!("write {}", said.display()))?;
    let mut command = Command::new("setsid");
    command.args(["ip", "netns", "exec", &names.namespace(at)]).arg(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", &folders.logs).current_dir(&folders.logs);
    prepare(&mut command).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().with_context(|| format!("start `{}`", shown(&command)))?;
    Ok(Running { name, child, said })
}

/// The certificate authority, and a certificate of it for the ingress. Both are new in every lab.
fn certificate(folders: &Folders) -> Result<()> {
    let at = |name: &str| folders.logs.join(name).display().to_string();
    let common = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let openssl = |arguments: &[&str]| {
        // Without a configuration of the machine's, whose extensions would come in as well.
        let mut command = Command::new("openssl");
        command.args(common).args(["-days", "30", "-config", &at("openssl.cnf")]);
        output(command.args(arguments)).map(drop)
    };
    std::fs::write(at("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n")?;
    openssl(&[
        "-subj",
        "/CN=CA of fedisniff's lab",
        "-keyout",
        &at("ca.key"),
        "-out",
        &at("ca.pem"),
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "subjectKeyIdentifier=hash",
    ])
    .context("make the certificate authority")?;
    let hosts: Vec<String> = SERVERS.iter().map(|server| format!("DNS:{}", server.host())).collect();
    openssl(&[
        "-subj",
        "/CN=ingress of fedisniff's lab",
        "-CA",
        &at("ca.pem"),
        "-CAkey",
        &at("ca.key"),
        "-keyout",
        &at("ingress.key"),
        "-out",
        &at("ingress.pem"),
        "-addext",
        &format!("subjectAltName={}", hosts.join(",")),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "extendedKeyUsage=serverAuth",
    ])
    .context("make the ingress's certificate")?;
    // Nobody needs another certificate; and whoever trusts this authority by mistake is safe from it.
    std::fs::remove_file(at("ca.key"))?;
    std::fs::set_permissions(at("ingress.key"), PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// Every name below fediverse.test is the ingress; there are no other names.
fn dns(names: &Names, folders: &Folders) -> Result<Running> {
    let program = which("dnsmasq").context("no dnsmasq: run `cargo xtask setup` first")?;
    let ingress = PODS.iter().find(|pod| pod.name == "ingress").context("an ingress")?;
    spawn(names, folders, "dns", "node", &program, |command| {
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll"])
            .args(["--user=root", "--pid-file=", "--bind-interfaces", "--except-interface=lo"])
            .arg(format!("--listen-address={GATEWAY}"))
            .arg(format!("--address=/fediverse.test/{}", ingress.address()))
            // Asked for AAAA, it says that there is none instead of having nobody to ask.
            .arg("--local=/fediverse.test/")
            .args(["--log-queries", "--log-facility=-"])
    })
}

fn proxy(names: &Names, folders: &Folders, tools: &Tools, backend: Backend, ipv6: bool) -> Result<Running> {
    // Not `traefik.yml`, which Traefik would take for its static configuration.
    let dynamic = folders.logs.join("routes.yml");
    std::fs::write(&dynamic, routes(folders, backend, ipv6))?;
    spawn(names, folders, "traefik", "ingress", &tools.traefik, |command| {
        command
            .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
            .args(["--log.level=INFO", "--log.nocolor=true", "--entrypoints.websecure.address=:443"])
            .arg(format!("--providers.file.filename={}", dynamic.display()))
            .arg("--providers.file.watch=false")
            .arg(format!("--accesslog.filepath={}", folders.access_log().display()))
            .args(["--accesslog.format=json", "--accesslog.fields.headers.defaultmode=keep"])
    })
}

/// Traefik's routes: each host to its pod, in the clear. `/ready` has connections of its own that are closed at once,
/// so that no connection to a pod is open before somebody listens.
fn routes(folders: &Folders, backend: Backend, ipv6: bool) -> String {
    let (mut routers, mut services) = (String::new(), String::new());
    for server in SERVERS {
        let name = server.pod;
        let Some(pod) = PODS.iter().find(|pod| pod.name == name) else { continue };
        let address = if ipv6 { format!("[{}]", pod.address6()) } else { pod.address() };
        let url = match backend {
            Backend::Http1 => format!("http://{address}:3000"),
            Backend::H2c => format!("h2c://{address}:3002"),
        };
        let host = format!("Host(`{}`)", server.host());
        routers += &format!(
            "    {name}: {{ rule: \"{host}\", service: {name}, tls: {{}} }}\n    \
             {name}-ready: {{ rule: \"{host} && Path(`/ready`)\", service: {name}-ready, tls: {{}} }}\n"
        );
        services += &format!(
            "    {name}: {{ loadBalancer: {{ servers: [{{ url: \"{url}\" }}] }} }}\n    \
             {name}-ready: {{ loadBalancer: {{ serversTransport: once, \
             servers: [{{ url: \"http://{address}:3000\" }}] }} }}\n"
        );
    }
    let (certificate, key) = (folders.logs.join("ingress.pem"), folders.logs.join("ingress.key"));
    format!(
        "# Made by `cargo xtask lab up`.\nhttp:\n  routers:\n{routers}  services:\n{services}  \
         serversTransports:\n    once: {{ maxIdleConnsPerHost: -1 }}\ntls:\n  certificates:\n    \
         - {{ certFile: {certificate:?}, keyFile: {key:?} }}\n"
    )
}

fn fedify(names: &Names, folders: &Folders, tools: &Tools, server: &Server) -> Result<Running> {
    let arguments = [
        "server.mjs".into(),
        format!("--host={}", server.host()),
        format!("--user={}", server.user),
        format!("--software={}", server.software),
        format!("--coding={}", server.coding),
        format!("--knock={}", server.knock),
        format!("--log={}", folders.server_log(server.pod).display()),
        format!("--control={}", socket(&folders.run, server.pod).display()),
    ];
    node(names, folders, tools, server.pod, &arguments)
}

fn node(
    names: &Names,
    folders: &Folders,
    tools: &Tools,
    pod: &'static str,
    arguments: &[String],
) -> Result<Running> {
    spawn(names, folders, pod, pod, &tools.node, |command| {
        command.args(arguments).current_dir(&tools.code).env("NODE_EXTRA_CA_CERTS", folders.ca())
    })
}
