//! A network namespace from within: a thread enters it and opens sockets, which stay of it wherever they are used. What
//! is sent is what a program in a pod would send; whoever is to receive it is started first.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::lock;

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The other side answered; for what nobody answers: it arrived.
    Passed,
    /// Somebody on the way, or the other side, said no.
    Refused,
    /// Nothing came back.
    Silent,
}

impl Outcome {
    /// Whether it got through.
    pub fn passed(self) -> bool {
        self == Self::Passed
    }
}

/// How long a connection may take: the SYN is sent again after one second.
const CONNECT: Duration = Duration::from_millis(1500);
/// How long an answer may take that is not TCP's, of three tries.
const ANSWER: Duration = Duration::from_millis(400);

/// A namespace, and who listens in it.
pub struct Place {
    namespace: String,
    listening: Mutex<BTreeMap<(u8, SocketAddr), Listener>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hush();
    }
}

/// A thread that answers, until it is dropped.
struct Listener {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs in a namespace.
///
/// # Panics
/// The namespace is not there, or this is not root.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = std::fs::File::open(PathBuf::from("/run/netns").join(namespace));
        let file = file.unwrap_or_else(|error| panic!("namespace {namespace}: {error}"));
        setns(file, CloneFlags::CLONE_NEWNET).expect("enter a namespace as root");
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("no panic within"))
}

/// A MAC that says whose it is: of the first IPv4 address.
pub(super) fn mac_of(addresses: &[IpAddr]) -> String {
    let octets = addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None });
    let [a, b, c, d] = octets.unwrap_or_default();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Runs `ip`.
pub(super) fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments)).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Place {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), listening: Mutex::default() }
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A program in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// What a program in it says.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub fn output(&self, command: &[&str]) -> Result<String> {
        let (program, arguments) = command.split_first().context("a program")?;
        run(self.command(program).args(arguments))
    }

    pub(super) fn output_of(&self, command: &mut Command) -> Result<String> {
        run(command)
    }

    /// Lines of `ip -batch` in it.
    pub(super) fn ip_batch(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace, "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run ip")?;
        child.stdin.take().context("its input")?.write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("ip -batch in {}: {}\n{lines}", self.namespace, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Writes a setting below `/proc/sys/net`, which is the namespace's own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        inside(&self.namespace, || std::fs::write(format!("/proc/sys/net/{name}"), value))
            .with_context(|| format!("set {name} in {}", self.namespace))
    }

    /// Whether it has an interface of this name.
    pub fn has(&self, interface: &str) -> bool {
        inside(&self.namespace, || nix::net::if_::if_nametoindex(interface).is_ok())
    }

    /// The number of an interface, which a link-local address takes as its scope.
    pub fn index(&self, interface: &str) -> u32 {
        inside(&self.namespace, || nix::net::if_::if_nametoindex(interface).expect("an interface"))
    }

    /// An address of an interface of which this holds.
    pub fn address(&self, interface: &str, which: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let all = self.output(&["ip", "-br", "address", "show", "dev", interface]).ok()?;
        all.split_whitespace().filter_map(|word| word.split('/').next()?.parse().ok()).find(|a| which(*a))
    }

    /// The MAC of an interface.
    pub fn mac(&self, interface: &str) -> [u8; 6] {
        let text = self.output(&["ip", "-br", "link", "show", "dev", interface]).expect("an interface");
        let mac = text.split_whitespace().nth(2).expect("a MAC");
        let mut octets = [0; 6];
        for (octet, text) in octets.iter_mut().zip(mac.split(':')) {
            *octet = u8::from_str_radix(text, 16).expect("hexadecimal");
        }
        octets
    }

    /// From now on somebody answers there by TCP and UDP, with what was said.
    ///
    /// # Panics
    /// Somebody else listens there, or nobody has the address.
    pub fn answers(&self, at: SocketAddr) {
        for protocol in [6, 17] {
            lock(&self.listening).entry((protocol, at)).or_insert_with(|| self.listen(protocol, at));
        }
    }

    /// From now on nobody answers any more.
    pub fn hush(&self) {
        let all = std::mem::take(&mut *lock(&self.listening));
        for listener in all.values() {
            listener.over.store(true, Ordering::Relaxed);
        }
    }

    fn listen(&self, protocol: u8, at: SocketAddr) -> Listener {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let cannot = || format!("listen at {at} in {}", self.namespace);
        let thread = if protocol == 6 {
            let listener =
                inside(&self.namespace, || TcpListener::bind(at)).with_context(cannot).expect("a listener");
            std::thread::spawn(move || echo_tcp(&listener, &until))
        } else {
            let socket =
                inside(&self.namespace, || UdpSocket::bind(at)).with_context(cannot).expect("a listener");
            std::thread::spawn(move || echo_udp(&socket, &until))
        };
        Listener { over, thread: Some(thread) }
    }

    /// Waits until an interface carries.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn carries(&self, interface: &str) -> Result<()> {
        let begin = Instant::now();
        let is = |one: InterfaceAddress| {
            one.interface_name == interface && one.flags.contains(InterfaceFlags::IFF_RUNNING)
        };
        while !inside(&self.namespace, || getifaddrs().is_ok_and(|mut all| all.any(is))) {
            if begin.elapsed() > Duration::from_secs(10) {
                bail!("{interface} in {} has no carrier", self.namespace);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// A connection, and something said and answered on it.
    pub fn tcp(&self, to: SocketAddr) -> Outcome {
        match self.connect(to) {
            Ok(mut stream) => say(&mut stream),
            Err(outcome) => outcome,
        }
    }

    /// A connection.
    ///
    /// # Errors
    /// What became of the attempt.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream, Outcome> {
        let stream = inside(&self.namespace, || TcpStream::connect_timeout(&to, CONNECT));
        let stream = stream.map_err(|error| outcome_of(&error))?;
        stream.set_read_timeout(Some(CONNECT)).expect("a time");
        Ok(stream)
    }

    /// A datagram that is answered.
    pub fn udp(&self, to: SocketAddr) -> Outcome {
        self.ask(to, b"are you there?").map_or_else(|outcome| outcome, |_| Outcome::Passed)
    }

    /// A datagram and its answer.
    ///
    /// # Errors
    /// What became of the attempt.
    pub fn ask(&self, to: SocketAddr, question: &[u8]) -> Result<Vec<u8>, Outcome> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = inside(&self.namespace, || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(ANSWER))?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| outcome_of(&error))?;
        let mut answer = [0; 4096];
        for _ in 0..3 {
            let answered = socket.send(question).and_then(|_| socket.recv(&mut answer));
            match answered {
                Ok(length) => return Ok(answer[..length].to_vec()),
                Err(error) if outcome_of(&error) == Outcome::Refused => return Err(Outcome::Refused),
                Err(_) => {}
            }
        }
        Err(Outcome::Silent)
    }

    /// An echo request that is answered.
    pub fn ping(&self, to: IpAddr) -> Outcome {
        let request = if to.is_ipv4() { 8 } else { 128 };
        let reply = if to.is_ipv4() { 0 } else { 129 };
        let Ok(socket) = self.raw(if to.is_ipv4() { 1 } else { 58 }, to) else { return Outcome::Refused };
        let message = icmp(to.is_ipv4(), request, 0, [0x5e, 0xed, 0, 1], b"fedisniff");
        // The header is there with IPv4 only.
        let start = if to.is_ipv4() { 20 } else { 0 };
        for _ in 0..3 {
            if socket.send_to(&message, &SockAddr::from(SocketAddr::new(to, 0))).is_err() {
                return Outcome::Refused;
            }
            let begin = Instant::now();
            let mut answer = [0; 2048];
            while begin.elapsed() < ANSWER {
                let Ok((length, _)) = (&socket).read(&mut answer).map(|length| (length, ())) else { break };
                let told = answer.get(start..length).unwrap_or_default();
                if told.first() == Some(&reply) && told.get(4..6) == Some(&[0x5e, 0xed]) {
                    return Outcome::Passed;
                }
            }
        }
        Outcome::Silent
    }

    /// A raw socket of a protocol, for the family of `like`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn raw(&self, protocol: u8, like: IpAddr) -> Result<Socket> {
        let domain = if like.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = inside(&self.namespace, || {
            Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))
        })?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(socket)
    }

    /// A packet of any protocol, of which nobody answers any: it passes if `receiver`, where it goes, has it after its
    /// own rules. Its end must be nobody else's.
    ///
    /// # Errors
    /// The kernel refuses a raw socket.
    pub fn one_way(&self, protocol: u8, to: IpAddr, receiver: &Place, message: &[u8]) -> Result<Outcome> {
        let here = self.raw(protocol, to)?;
        let mut refused = false;
        // The checksum of what is translated is another, so only the end is compared.
        let end = &message[message.len().saturating_sub(8)..];
        let heard = receiver.hears(protocol, to, end, || {
            refused = here.send_to(message, &SockAddr::from(SocketAddr::new(to, 0))).is_err();
        })?;
        Ok(match (heard, refused) {
            (true, _) => Outcome::Passed,
            (false, true) => Outcome::Refused,
            (false, false) => Outcome::Silent,
        })
    }

    /// Whether a packet that ends so comes in, after the namespace's own rules, when this is done.
    ///
    /// # Errors
    /// The kernel refuses a raw socket.
    pub fn hears(&self, protocol: u8, like: IpAddr, end: &[u8], work: impl FnOnce()) -> Result<bool> {
        let socket = self.raw(protocol, like)?;
        work();
        let begin = Instant::now();
        let mut packet = [0; 2048];
        while begin.elapsed() < ANSWER {
            let Ok(length) = (&socket).read(&mut packet) else { break };
            if packet[..length].ends_with(end) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Something said and answered.
pub fn say(stream: &mut TcpStream) -> Outcome {
    let mut answer = [0; 5];
    match stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut answer)) {
        Ok(()) if &answer == b"hello" => Outcome::Passed,
        Ok(()) => Outcome::Refused,
        Err(error) => outcome_of(&error),
    }
}

fn outcome_of(error: &std::io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Outcome::Silent,
        _ => Outcome::Refused,
    }
}

fn echo_tcp(listener: &TcpListener, over: &Arc<AtomicBool>) {
    let _ = listener.set_nonblocking(true);
    while !over.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let over = Arc::clone(over);
        std::thread::spawn(move || echo_on(&stream, &over));
    }
}

fn echo_on(mut stream: &TcpStream, over: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    let mut said = [0; 1024];
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut said) {
            Ok(0) => return,
            Ok(length) => {
                if stream.write_all(&said[..length]).is_err() {
                    return;
                }
            }
            Err(error) if outcome_of(&error) == Outcome::Silent => {}
            Err(_) => return,
        }
    }
}

fn echo_udp(socket: &UdpSocket, over: &AtomicBool) {
    let _ = socket.set_read_timeout(Some(Duration::from_millis(50)));
    let mut said = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut said) {
            // Who asked may be gone.
            let _ = socket.send_to(&said[..length], from);
        }
    }
}

/// An ICMP message with its checksum; ICMPv6's is the kernel's to fill in.
pub fn icmp(four: bool, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(data);
    if four {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The Internet's checksum (RFC 1071).
pub fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
