//! The cluster (`cargo xtask cluster`, see `tests/cluster/README.md`) as a value: it is up while the value lives. Pods
//! are put into it as objects of the real API with the status that a kubelet would write, and as namespaces of their
//! own; what they send is real, and what becomes of it is told by who receives it.

pub mod api;
pub mod place;
pub mod pods;
pub mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::api::Api;
use self::place::Place;
use self::pods::{Pod, PodSpec};
use self::tap::{Arrival, Tap};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace of the API of our own, for what marks that kube-router has seen everything before it.
const MARKS: &str = "marks";
const MARKED: [&str; 2] = ["10.42.0.250", "fd42::250"];

/// A cluster that nobody else uses.
pub struct Cluster {
    about: Value,
    /// The API, as root of the cluster.
    pub api: Api,
    /// The node with the control plane and kube-router.
    pub node: Arc<Place>,
    /// The other one, which nobody watches.
    pub node2: Arc<Place>,
    /// "The internet".
    pub outside: Arc<Place>,
    tap: Tap,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// Paths of other objects that were made, in order.
    made: Mutex<Vec<String>>,
    marks: AtomicU32,
    /// What a test started.
    programs: Mutex<BTreeMap<String, Child>>,
    /// The cluster's own programs that were started again, and stay.
    restarted: Mutex<BTreeMap<String, Child>>,
    /// Those among them that run with other arguments.
    altered: Mutex<BTreeSet<String>>,
    _holder: Holder,
}

/// `cargo xtask cluster ACTION --name NAME`, not yet started.
pub fn command(action: &str, name: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["xtask", "cluster", action, "--name", name]);
    // Of a group of its own, so that Ctrl-C reaches it only by the end of its input.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    command
}

/// `cargo xtask cluster hold`: it takes the cluster away when its standard input ends, that is with this process at the
/// latest, however that ends.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn text<'a>(about: &'a Value, name: &str) -> Result<&'a str> {
    about[name].as_str().with_context(|| format!("no `{name}` in cluster.json"))
}

impl Cluster {
    /// Builds it; the name must be the caller's own: small letters and digits, up to 20.
    ///
    /// # Errors
    /// It does not come up, with what it said.
    pub fn up(name: &str) -> Result<Self> {
        let mut child = command("hold", name).spawn().context("start cargo")?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("its output")?);
        let mut holder = Holder { child, input };
        let mut said = String::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == "up" {
                break;
            }
            said += &format!("{line}\n");
        }
        let file = Path::new("/run/fedisniff-cluster").join(name).join("cluster.json");
        let Ok(about) = std::fs::read(&file) else {
            bail!("the cluster does not come up ({:?}): {said}", holder.child.wait());
        };
        let about: Value = serde_json::from_slice(&about)?;
        let node = |at: usize| {
            about["nodes"][at].as_str().map(|n| Arc::new(Place::new(n))).context("a node's namespace")
        };
        let outside = text(&about, "outside")?;
        let beyond: Vec<IpAddr> = about["addresses_outside"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|address| address.as_str()?.parse().ok())
            .collect();
        let cluster = Self {
            api: Api::new(Path::new(text(&about, "api")?)),
            node: node(0)?,
            node2: node(1)?,
            outside: Arc::new(Place::new(outside)),
            tap: Tap::of(outside, "switch", move |arrival| beyond.contains(&arrival.destination))?,
            pods: Mutex::default(),
            made: Mutex::default(),
            marks: AtomicU32::new(0),
            programs: Mutex::default(),
            restarted: Mutex::default(),
            altered: Mutex::default(),
            _holder: holder,
            about,
        };
        cluster.namespace(MARKS, json!({}))?;
        cluster.object(&PodSpec::new(MARKS, "mark", &MARKED))?;
        cluster.publish(MARKS, "mark", "n1", &MARKED.map(|a| a.parse().expect("an address")), "Running")?;
        Ok(cluster)
    }

    /// Makes a namespace of the API, or sets its labels.
    ///
    /// # Errors
    /// The API refuses.
    pub fn namespace(&self, name: &str, labels: Value) -> Result<()> {
        // The API server adds the name as a label; whoever owns all labels must not take it away again.
        self.api.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )?;
        Ok(())
    }

    /// Makes an object, with its status; it goes away with `reset`.
    ///
    /// # Errors
    /// The API refuses, with its reason.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let path = self.api.apply(object)?;
        let mut made = lock(&self.made);
        if !made.contains(&path) {
            made.push(path);
        }
        Ok(())
    }

    /// Makes a policy of `spec`.
    ///
    /// # Errors
    /// The API refuses, with its reason.
    pub fn policy(&self, namespace: &str, name: &str, spec: Value) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))
    }

    /// Takes a policy away.
    ///
    /// # Errors
    /// The API refuses.
    pub fn no_policy(&self, namespace: &str, name: &str) -> Result<()> {
        let path = api::path("networking.k8s.io/v1", "NetworkPolicy", Some(namespace), name)?;
        lock(&self.made).retain(|other| *other != path);
        self.api.delete(&path)
    }

    /// Takes every policy of the tests away.
    ///
    /// # Errors
    /// The API refuses.
    pub fn no_policies(&self) -> Result<()> {
        let mut made = lock(&self.made);
        for path in made.extract_if(.., |path| path.contains("/networkpolicies/")) {
            self.api.delete(&path)?;
        }
        Ok(())
    }

    /// As it was when it came up.
    ///
    /// # Errors
    /// What a test made cannot be taken away.
    pub fn reset(&self) -> Result<()> {
        self.no_policies()?;
        for path in lock(&self.made).drain(..).rev() {
            self.api.delete(&path)?;
        }
        let pods: Vec<Arc<Pod>> = lock(&self.pods).values().cloned().collect();
        for pod in pods {
            self.remove(&pod)?;
        }
        for (_, child) in std::mem::take(&mut *lock(&self.programs)) {
            end(child)?;
        }
        let pins = self.pins()?;
        if pins.exists() {
            self.node.output_of(Command::new("umount").arg(&pins))?;
            std::fs::remove_dir(&pins)?;
        }
        for place in [&self.node, &self.node2, &self.outside] {
            place.hush();
        }
        for program in ["kube-proxy", "kube-router"] {
            let runs = !self.processes(program)?.is_empty();
            if lock(&self.altered).contains(program) || !runs {
                if runs {
                    self.stop(program)?;
                }
                self.start_again(program, &[])?;
            }
        }
        self.synced()?;
        self.forget()?;
        self.tap.clear();
        Ok(())
    }

    /// Lets the first node's kernel forget every connection: what comes next is new to it.
    ///
    /// # Errors
    /// conntrack fails.
    pub fn forget(&self) -> Result<()> {
        self.node.output(&["conntrack", "-F"]).map(drop)
    }

    /// The rules of the filter table in one family (`iptables` or `ip6tables`).
    ///
    /// # Errors
    /// They cannot be read.
    pub fn rules(&self, iptables: &str) -> Result<String> {
        let begin = Instant::now();
        loop {
            // While kube-router exchanges its sets, iptables-save cannot name one and fails.
            match self.node.output(&[&format!("{iptables}-save"), "-t", "filter"]) {
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
                rules => return rules,
            }
        }
    }

    /// Waits until kube-router's rules, in both families, are of all that the API knows by now. Within one kind of
    /// object the API's watchers hear of changes in their order; so a policy that is made last, and stands in the rules,
    /// proves the policies before it. Pods are looked for by their addresses.
    ///
    /// # Errors
    /// That does not happen.
    pub fn synced(&self) -> Result<()> {
        self.synced_in(&["iptables", "ip6tables"])
    }

    /// The same in some families only.
    ///
    /// # Errors
    /// That does not happen.
    pub fn synced_in(&self, families: &[&str]) -> Result<()> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        let path = |mark: u32| {
            api::path("networking.k8s.io/v1", "NetworkPolicy", Some(MARKS), &format!("mark-{mark}"))
        };
        // The last one goes first, so that nothing is left to be synced when this is done.
        if let Some(last) = mark.checked_sub(1) {
            self.api.delete(&path(last)?)?;
        }
        self.api.apply(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": format!("mark-{mark}"), "namespace": MARKS},
            "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
        }))?;
        let begin = Instant::now();
        loop {
            let rules = families.iter().map(|family| self.rules(family)).collect::<Result<Vec<_>>>()?;
            let marked = format!("run through nw policy mark-{mark}\"");
            if rules.iter().all(|text| text.contains(&marked)) && self.has_pods(&rules, families) {
                break;
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "kube-router has no rules of mark-{mark} and of all pods:\n{}",
                rules.join("\n")
            );
            std::thread::sleep(Duration::from_millis(15));
        }
        Ok(())
    }

    /// Whether the rules have a chain for each pod of the first node, and for no other.
    fn has_pods(&self, rules: &[String], families: &[&str]) -> bool {
        let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
        let is_jump = |line: &&str| line.starts_with("-A KUBE-ROUTER-OUTPUT -s ");
        let found: BTreeSet<IpAddr> =
            rules.iter().flat_map(|text| text.lines().filter(is_jump).filter_map(address)).collect();
        let wanted: BTreeSet<IpAddr> = lock(&self.pods)
            .values()
            .filter(|pod| self.node.has(&pod.veth))
            .flat_map(|pod| pod.addresses.clone())
            .chain(MARKED.map(|a| a.parse().expect("an address")))
            .filter(|address| families.contains(if address.is_ipv4() { &"iptables" } else { &"ip6tables" }))
            .collect();
        found == wanted
    }

    /// What has reached "the internet" since the last time, to the addresses that are there.
    pub fn arrivals(&self) -> Vec<Arrival> {
        // What is on its way comes within this.
        std::thread::sleep(Duration::from_millis(30));
        self.tap.take()
    }

    /// All that fedisniff's `--cluster FILE` wants, as `kubectl get -A -o yaml` gives it, into a file; gives its name.
    ///
    /// # Errors
    /// kubectl fails.
    pub fn export_yaml(&self) -> Result<PathBuf> {
        let kinds = "namespaces,nodes,pods,services,endpointslices,networkpolicies";
        let (kubectl, config) = (text(&self.about, "kubectl")?, text(&self.about, "kubeconfig")?);
        let yaml = self.node.output(&[kubectl, "--kubeconfig", config, "get", kinds, "-A", "-o", "yaml"])?;
        let file = self.logs()?.join("cluster.yaml");
        std::fs::write(&file, yaml).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// Where the cluster's programs write what they say.
    ///
    /// # Errors
    /// The cluster does not say.
    pub fn logs(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(text(&self.about, "logs")?))
    }

    /// Where fedisniff pins what outlives it: beside the API's socket, where the cluster's holder looks after it.
    fn pins(&self) -> Result<PathBuf> {
        Ok(Path::new(text(&self.about, "api")?).with_file_name("bpf"))
    }

    /// The path of its kubeconfig.
    ///
    /// # Errors
    /// The cluster does not say.
    pub fn kubeconfig(&self) -> Result<&str> {
        text(&self.about, "kubeconfig")
    }

    /// Starts CoreDNS in a pod with this configuration, and waits until it answers there.
    ///
    /// # Errors
    /// It does not.
    pub fn coredns(&self, pod: &Pod, corefile: &str) -> Result<()> {
        let file = self.logs()?.join("Corefile");
        std::fs::write(&file, corefile)?;
        let log = self.logs()?.join("coredns.log");
        let mut command = pod.command(text(&self.about, "coredns")?);
        command.arg("-conf").arg(&file);
        self.start("coredns", command, &log)?;
        let begin = Instant::now();
        while !std::fs::read_to_string(&log)?.contains("CoreDNS-") {
            ensure!(begin.elapsed() < PATIENCE, "CoreDNS does not start: {}", std::fs::read_to_string(&log)?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn start(&self, name: &str, mut command: Command, log: &Path) -> Result<()> {
        if let Some(before) = lock(&self.programs).remove(name) {
            end(before)?;
        }
        let file = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        lock(&self.programs).insert(name.to_owned(), child);
        Ok(())
    }

    /// The processes of one of the cluster's programs, in the first node.
    fn processes(&self, program: &str) -> Result<Vec<String>> {
        let pids = self.node.output_of(Command::new("ip").args(["netns", "pids", self.node.namespace()]))?;
        let is = |pid: &&str| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(program))
        };
        Ok(pids.lines().filter(is).map(str::to_owned).collect())
    }

    /// Ends one of the cluster's programs (`kube-proxy`, say).
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop(&self, program: &str) -> Result<()> {
        let pids = self.processes(program)?;
        ensure!(!pids.is_empty(), "{program} does not run");
        self.node.output_of(Command::new("kill").args(&pids))?;
        let begin = Instant::now();
        while !self.processes(program)?.is_empty() {
            ensure!(begin.elapsed() < PATIENCE, "{program} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Lets one of the cluster's programs stand still until what this gives is dropped.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, program: &str) -> Result<Paused> {
        let pids = self
            .processes(program)?
            .iter()
            .map(|pid| pid.parse().map(Pid::from_raw))
            .collect::<Result<_, _>>()?;
        let paused = Paused(pids);
        ensure!(!paused.0.is_empty(), "{program} does not run");
        paused.tell(Signal::SIGSTOP);
        // What it has begun by other programs goes on to its end.
        std::thread::sleep(Duration::from_millis(300));
        Ok(paused)
    }

    /// Starts one of the cluster's programs again, with more arguments.
    ///
    /// # Errors
    /// There is no such program, or it does not start.
    pub fn start_again(&self, program: &str, more: &[&str]) -> Result<()> {
        self.begin(program, |arguments| arguments.extend(more))?;
        self.note(program, !more.is_empty());
        Ok(())
    }

    /// Starts one of the cluster's programs again, without some of its arguments.
    ///
    /// # Errors
    /// There is no such program, it has not these arguments, or it does not start.
    pub fn start_without(&self, program: &str, less: &[&str]) -> Result<()> {
        self.begin(program, |arguments| arguments.retain(|argument| !less.contains(argument)))?;
        self.note(program, true);
        Ok(())
    }

    fn note(&self, program: &str, altered: bool) {
        let mut all = lock(&self.altered);
        if altered {
            all.insert(program.to_owned())
        } else {
            all.remove(program)
        };
    }

    fn begin<'a>(&'a self, program: &str, change: impl FnOnce(&mut Vec<&'a str>)) -> Result<()> {
        let all = self.about["programs"].as_array().into_iter().flatten();
        let found = all.filter(|p| p["name"] == program).find_map(|p| p["command"].as_array());
        let mut words: Vec<&str> = found.into_iter().flatten().filter_map(Value::as_str).collect();
        change(&mut words);
        let (binary, arguments) = words.split_first().with_context(|| format!("no program {program}"))?;
        let mut command = self.node.command(binary);
        let log = self.logs()?.join(format!("{program}.log"));
        let log = std::fs::File::options().append(true).create(true).open(log)?;
        // Ctrl-C is not for it: the cluster's holder ends it.
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        // The first one is the holder's to wait for; one of ours, that was started in its place, is ours.
        if let Some(mut before) = lock(&self.restarted).insert(program.to_owned(), child) {
            before.wait()?;
        }
        Ok(())
    }

    /// `fedisniff watch` beside kube-router, in the first node: of the objects that there are now, or of the API itself
    /// if the arguments say so (`--cluster kube`). It ends with `reset`.
    ///
    /// # Errors
    /// It does not start.
    pub fn with_fedisniff(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        // Denial outlives fedisniff by what it pins; here no longer than until `reset`.
        let pins = self.pins()?;
        if !pins.exists() {
            std::fs::create_dir(&pins).with_context(|| format!("make {}", pins.display()))?;
            self.node.output_of(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&pins))?;
        }
        let mut command = self.node.command(&program.display().to_string());
        command.arg("watch").args(arguments).arg("--pins").arg(pins.join("fedisniff"));
        command.env("KUBECONFIG", self.kubeconfig()?);
        if !arguments.contains(&"--cluster") {
            command.arg("--cluster").arg(self.export_yaml()?);
        }
        let log = self.logs()?.join("fedisniff.log");
        self.start("fedisniff", command, &log)?;
        let begin = Instant::now();
        while !std::fs::read_to_string(&log)?.contains("Ctrl-C ends it") {
            let gone =
                lock(&self.programs).get_mut("fedisniff").is_some_and(|c| !matches!(c.try_wait(), Ok(None)));
            let said = std::fs::read_to_string(&log)?;
            ensure!(!gone && begin.elapsed() < PATIENCE, "fedisniff does not watch: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A program that stands still.
pub struct Paused(Vec<Pid>);

impl Paused {
    fn tell(&self, signal: Signal) {
        for pid in &self.0 {
            // It may be gone by itself.
            let _ = kill(*pid, signal);
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.tell(Signal::SIGCONT);
    }
}

/// Ends a program as an operator would, or else by force.
fn end(mut child: Child) -> Result<()> {
    let pid = i32::try_from(child.id()).context("a process's number")?;
    // It may be gone by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > Duration::from_secs(5) {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What a test left when it failed is nothing to the next one, which begins with `reset`.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
