//! A node as a cluster has it, made of network namespaces for one test: `NAME-node` with the host-side veths, and one
//! namespace per pod. Nothing in it reaches the machine's own interfaces. It goes away with the value.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};

/// The node.
pub(super) struct Node {
    name: String,
    namespaces: Vec<String>,
}

impl Node {
    /// A node without pods, with a name that no other test and no other run has.
    pub(super) fn new(what: &str) -> Self {
        let mut node = Self { name: format!("fs{}{what}", std::process::id()), namespaces: Vec::new() };
        node.namespace("node");
        node
    }

    /// A node with the bridge `cni0` as 10.42.0.1 and fd00:42::1.
    pub(super) fn with_bridge(what: &str) -> Self {
        let node = Self::new(what);
        node.ip(
            "node",
            "link add cni0 type bridge\naddress add 10.42.0.1/24 dev cni0\n\
             address add fd00:42::1/64 dev cni0 nodad\nlink set cni0 up",
        );
        node
    }

    /// The full name of a namespace: `node`, a pod, or what is outside.
    pub(super) fn name_of(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    /// Makes a namespace with its loopback up.
    pub(super) fn namespace(&mut self, of: &str) {
        let name = self.name_of(of);
        self.namespaces.push(name.clone());
        run(Command::new("ip").args(["netns", "add", &name]));
        self.ip(of, "link set lo up");
    }

    /// Removes a namespace before the end.
    pub(super) fn forget(&mut self, of: &str) {
        let name = self.name_of(of);
        self.namespaces.retain(|n| *n != name);
        run(Command::new("ip").args(["netns", "delete", &name]));
    }

    /// A pod on the bridge: its veth `vethPOD`, its own end `eth0` as 10.42.0.NUMBER and fd00:42::NUMBER.
    pub(super) fn pod(&mut self, pod: &str, number: u8) {
        self.pair(pod);
        self.ip("node", &format!("link set veth{pod} master cni0 up"));
        self.ip(
            pod,
            &format!(
                "address add 10.42.0.{number}/24 dev eth0\naddress add fd00:42::{number}/64 dev eth0 nodad\n\
                 link set eth0 up\nroute add default via 10.42.0.1"
            ),
        );
    }

    /// A pod that the node routes to, without a bridge, as the CNI plugin `ptp` makes it.
    pub(super) fn routed_pod(&mut self, pod: &str, number: u8) {
        self.pair(pod);
        self.ip(
            "node",
            &format!(
                "address add 10.42.0.1/32 dev veth{pod}\nlink set veth{pod} up\n\
                 route add 10.42.0.{number}/32 dev veth{pod} scope link"
            ),
        );
        self.ip(
            pod,
            &format!(
                "address add 10.42.0.{number}/32 dev eth0\nlink set eth0 up\n\
                 route add 10.42.0.1/32 dev eth0 scope link\nroute add default via 10.42.0.1"
            ),
        );
    }

    /// A pod whose veth is neither on a bridge nor has an address at the node: somebody else forwards.
    pub(super) fn loose_pod(&mut self, pod: &str, number: u8) {
        self.pair(pod);
        self.ip("node", &format!("link set veth{pod} up"));
        self.ip(pod, &format!("address add 10.42.0.{number}/24 dev eth0\nlink set eth0 up"));
    }

    /// What is outside the node, as 192.0.2.1, behind the node's uplink `eth0`, 192.0.2.2.
    pub(super) fn outside(&mut self) {
        self.namespace("outside");
        let (node, outside) = (self.name_of("node"), self.name_of("outside"));
        run(Command::new("ip").args([
            "link", "add", "eth0", "netns", &node, "type", "veth", "peer", "name", "eth0", "netns", &outside,
        ]));
        self.ip(
            "node",
            "address add 192.0.2.2/24 dev eth0\nlink set eth0 up\nroute add default via 192.0.2.1",
        );
        self.ip(
            "outside",
            "address add 192.0.2.1/24 dev eth0\nlink set eth0 up\nroute add 10.42.0.0/16 via 192.0.2.2",
        );
    }

    /// The node forwards.
    pub(super) fn forwards(&self) {
        self.run("node", "sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    }

    fn pair(&mut self, pod: &str) {
        self.namespace(pod);
        let (node, there) = (self.name_of("node"), self.name_of(pod));
        run(Command::new("ip").args([
            "link",
            "add",
            &format!("veth{pod}"),
            "netns",
            &node,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &there,
        ]));
    }

    /// Lines for `ip`, in a namespace.
    pub(super) fn ip(&self, of: &str, lines: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name_of(of), "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ip (iproute2) runs");
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("write");
        let output = child.wait_with_output().expect("ip ends");
        assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A program in a namespace.
    pub(super) fn command(&self, of: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name_of(of)]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a program in a namespace to its end, which must be good; gives what it printed.
    pub(super) fn run(&self, of: &str, program: &str, arguments: &[&str]) -> String {
        run(self.command(of, program).args(arguments))
    }

    /// A thread inside a namespace. One that is still there when the test ends keeps the namespace, but not its name,
    /// until the process ends.
    pub(super) fn inside<T: Send + 'static>(
        &self,
        of: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.name_of(of))).expect("a namespace");
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("this runs as root");
            body()
        })
    }

    /// The names of the programs on both TCX hooks of an interface of the node.
    pub(super) fn attached(&self, interface: &str) -> Vec<String> {
        let interface = interface.to_owned();
        let names = move || super::attached_here(&interface);
        self.inside("node", names).join().expect("the kernel says what is attached")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("a program of `cargo xtask setup` runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
