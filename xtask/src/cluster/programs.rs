//! What runs in the cluster: etcd, the API server, kube-proxy and kube-router, each in the first node's namespace, each
//! outliving this program and writing what it says to a file of its own. There is no kubelet: pods are objects whose
//! status is written by whoever makes them, beside real namespaces.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::net::{NODES, Names};
use super::tools::Tools;
use crate::netns;
use crate::shell::{output, shown, tail};

/// Starting on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a cluster's things are.
pub(super) struct Folders {
    /// Logs, certificates and configuration, below `target`.
    pub(super) logs: PathBuf,
    /// The socket, for which a path has 107 octets at most, and etcd's data, which need no disk.
    pub(super) run: PathBuf,
}

impl Folders {
    fn at(&self, name: &str) -> String {
        self.logs.join(name).display().to_string()
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.logs.join("kubeconfig")
    }

    /// Where the API answers in the clear, as root of the cluster.
    pub(super) fn socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }
}

/// A program, by which it can be started again.
#[derive(Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    command: Vec<String>,
    log: PathBuf,
}

impl Program {
    /// Whether this is what a process was started with (`/proc/PID/cmdline`).
    pub(super) fn is(&self, command_line: &[u8]) -> bool {
        let mut words = command_line.split(|byte| *byte == 0);
        self.command.iter().all(|word| words.next() == Some(word.as_bytes()))
    }
}

/// A program that was started.
struct Running<'a> {
    program: &'a Program,
    child: Child,
}

/// The programs of a cluster, in the order in which they start.
pub(super) fn list(folders: &Folders, tools: &Tools) -> Vec<Program> {
    let at = |name: &str| folders.at(name);
    let kubeconfig = folders.kubeconfig().display().to_string();
    let program = |name: &str, binary: &Path, arguments: &[String]| Program {
        name: name.to_owned(),
        command: std::iter::once(binary.display().to_string()).chain(arguments.iter().cloned()).collect(),
        log: folders.logs.join(format!("{name}.log")),
    };
    let etcd = [
        format!("--data-dir={}", folders.run.join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--log-level=warn".into(),
        "--logger=zap".into(),
    ];
    let apiserver = [
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--advertise-address=192.0.2.1".into(),
        "--secure-port=6443".into(),
        "--service-cluster-ip-range=10.43.0.0/16,fd43::/112".into(),
        "--authorization-mode=Node,RBAC".into(),
        // Its tokens are the controller manager's to make, which is not here.
        "--disable-admission-plugins=ServiceAccount".into(),
        "--allow-privileged=true".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", at("accounts.pem")),
        format!("--service-account-signing-key-file={}", at("accounts.key")),
        format!("--client-ca-file={}", at("ca.pem")),
        format!("--tls-cert-file={}", at("apiserver.pem")),
        format!("--tls-private-key-file={}", at("apiserver.key")),
    ];
    let proxy = [
        "proxy".into(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--unix-socket={}", folders.socket().display()),
    ];
    let kube_proxy = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--hostname-override={}", NODES[0].name),
        "--proxy-mode=iptables".into(),
        "--cluster-cidr=10.42.0.0/16,fd42::/16".into(),
        "--iptables-min-sync-period=100ms".into(),
        // Those are the machine's, and not to be set from a namespace.
        "--conntrack-max-per-core=0".into(),
        "--conntrack-min=0".into(),
        "--conntrack-tcp-timeout-established=0".into(),
        "--conntrack-tcp-timeout-close-wait=0".into(),
    ];
    let kube_router = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--hostname-override={}", NODES[0].name),
        "--run-firewall=true".into(),
        "--run-router=false".into(),
        "--run-service-proxy=false".into(),
        "--run-loadbalancer=false".into(),
        "--enable-cni=false".into(),
        "--enable-ipv6=true".into(),
        "--service-cluster-ip-range=10.43.0.0/16".into(),
        "--service-cluster-ip-range=fd43::/112".into(),
        "--health-port=0".into(),
    ];
    vec![
        program("etcd", &tools.etcd, &etcd),
        program("kube-apiserver", &tools.apiserver, &apiserver),
        program("kubectl-proxy", &tools.kubectl, &proxy),
        program("kube-proxy", &tools.kube_proxy, &kube_proxy),
        program("kube-router", &tools.kube_router, &kube_router),
    ]
}

/// Starts all, and waits until kube-router has written its rules for the first time.
pub(super) fn start(names: &Names, folders: &Folders, tools: &Tools, programs: &[Program]) -> Result<()> {
    certificates(folders)?;
    std::fs::write(folders.kubeconfig(), kubeconfig(folders))?;
    let mut running = Vec::new();
    let begin = Instant::now();
    for program in programs {
        running.push(spawn(names, program)?);
        // One after the other: what is written to the filter table while kube-router rewrites it is lost.
        match program.name.as_str() {
            "kube-apiserver" => {
                until(&mut running, begin, "the API server", || {
                    let ready = kubectl(names, folders, tools)?.args(["get", "--raw=/readyz"]).output()?;
                    Ok(ready.status.success())
                })?;
                println!("cluster: the API server is ready after {:.1} s", begin.elapsed().as_secs_f64());
                nodes(names, folders, tools)?;
            }
            "kubectl-proxy" => {
                until(&mut running, begin, "the API's socket", || Ok(folders.socket().exists()))?;
            }
            "kube-proxy" => has_chain(names, &mut running, begin, "KUBE-FORWARD")?,
            "kube-router" => has_chain(names, &mut running, begin, "KUBE-NWPLCY-TAIL")?,
            _ => {}
        }
    }
    Ok(())
}

/// Waits for the last program's rules in both families.
fn has_chain(names: &Names, running: &mut [Running<'_>], begin: Instant, chain: &str) -> Result<()> {
    for iptables in ["iptables-save", "ip6tables-save"] {
        until(running, begin, chain, || {
            let rules = netns::inside(&names.namespace(NODES[0].name), iptables)?
                .args(["-t", "filter"])
                .stdin(Stdio::null())
                .output()?;
            // It fails while sets are exchanged.
            Ok(String::from_utf8_lossy(&rules.stdout).contains(&format!(":{chain} ")))
        })?;
    }
    Ok(())
}

/// kubectl in the first node.
fn kubectl(names: &Names, folders: &Folders, tools: &Tools) -> Result<Command> {
    let mut command = netns::inside(&names.namespace(NODES[0].name), &tools.kubectl.display().to_string())?;
    command.arg("--kubeconfig").arg(folders.kubeconfig()).stdin(Stdio::null());
    Ok(command)
}

/// The nodes' objects, which a kubelet would have made.
fn nodes(names: &Names, folders: &Folders, tools: &Tools) -> Result<()> {
    let items: Vec<_> = NODES
        .iter()
        .map(|node| {
            let networks = node.networks();
            let mut addresses: Vec<_> = node
                .addresses
                .iter()
                .map(|a| json!({"type": "InternalIP", "address": a.split('/').next()}))
                .collect();
            addresses.push(json!({"type": "Hostname", "address": node.name}));
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
                "spec": {"podCIDR": networks.first(), "podCIDRs": networks},
                "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
            })
        })
        .collect();
    let file = folders.logs.join("nodes.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    output(kubectl(names, folders, tools)?.args(["create", "--validate=false", "-f"]).arg(&file))
        .context("make the nodes' objects")?;
    Ok(())
}

/// A moment's sleep after each try; an error when a program has ended or too much time is gone.
fn until(
    running: &mut [Running<'_>],
    begin: Instant,
    awaited: &str,
    mut there: impl FnMut() -> Result<bool>,
) -> Result<()> {
    while !there()? {
        for one in &mut *running {
            if let Some(status) = one.child.try_wait()? {
                bail!("{} ended ({status}); its last words:\n{}", one.program.name, tail(&one.program.log));
            }
        }
        if begin.elapsed() > PATIENCE {
            let said: String = running
                .iter()
                .map(|one| format!("\n-- {}:\n{}", one.program.name, tail(&one.program.log)))
                .collect();
            bail!("{awaited} was not ready within {} s; last words:{said}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Starts a program in the first node. It gets a session of its own, so that neither Ctrl-C nor the terminal's end
/// reaches it, and none of the caller's environment.
fn spawn<'a>(names: &Names, program: &'a Program) -> Result<Running<'a>> {
    let file = File::create(&program.log).with_context(|| format!("write {}", program.log.display()))?;
    let mut command = Command::new("setsid");
    command.args(["ip", "netns", "exec", &names.namespace(NODES[0].name)]).args(&program.command);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folder = program.log.parent().context("a folder of logs")?;
    command.env_clear().env("PATH", path).env("HOME", folder).current_dir(folder);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().with_context(|| format!("start `{}`", shown(&command)))?;
    Ok(Running { program, child })
}

/// The certificate authority, the API server's certificate, and that of the cluster's root. All are new in every
/// cluster.
fn certificates(folders: &Folders) -> Result<()> {
    let at = |name: &str| folders.at(name);
    std::fs::write(at("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n")?;
    let request = |name: &str, subject: &str, more: &[&str]| -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        // Without a configuration of the machine's, whose extensions would come in as well.
        command.args(["-days", "30", "-config", &at("openssl.cnf"), "-subj", subject]);
        command.args(["-keyout", &at(&format!("{name}.key")), "-out", &at(&format!("{name}.pem"))]);
        output(command.args(more)).with_context(|| format!("make the certificate of {name}"))?;
        std::fs::set_permissions(at(&format!("{name}.key")), PermissionsExt::from_mode(0o600))?;
        Ok(())
    };
    let authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
    request("ca", "/CN=CA of fedisniff's cluster", &["-addext", authority[0], "-addext", authority[1]])?;
    let (ca, key) = (at("ca.pem"), at("ca.key"));
    let signed = ["-CA", &ca, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE", "-addext"];
    let names =
        "subjectAltName=IP:192.0.2.1,IP:127.0.0.1,IP:10.43.0.1,DNS:kubernetes,DNS:kubernetes.default.svc";
    let server = [&signed[..], &["extendedKeyUsage=serverAuth", "-addext", names]].concat();
    request("apiserver", "/CN=kube-apiserver", &server)?;
    let client = [&signed[..], &["extendedKeyUsage=clientAuth"]].concat();
    request("root", "/O=system:masters/CN=root", &client)?;
    // Of a key alone the API server takes no public half in this form; of a certificate it does.
    request("accounts", "/CN=service accounts", &[])?;
    Ok(())
}

fn kubeconfig(folders: &Folders) -> String {
    let (ca, certificate, key) = (folders.at("ca.pem"), folders.at("root.pem"), folders.at("root.key"));
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
         clusters:\n- name: it\n  cluster: {{server: \"https://192.0.2.1:6443\", certificate-authority: {ca:?}}}\n\
         users:\n- name: root\n  user: {{client-certificate: {certificate:?}, client-key: {key:?}}}\n\
         contexts:\n- name: it\n  context: {{cluster: it, user: root}}\n"
    )
}
