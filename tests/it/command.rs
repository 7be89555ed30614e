//! The command line as a user meets it: what it prints, its exit codes, and what bad input gets: a message that says
//! what, where and what to do, and nothing left half-written.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

const SMALL: &str = "s08-egress-reject-traefik.pcapng.zst";

/// The program, built once from the same sources as this test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "sniffer", "--bin", "fedisniff"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "fedisniff does not build");
        // target/debug/deps/it-… -> target/debug/fedisniff
        let here = std::env::current_exe().expect("this test's own path");
        here.parent().and_then(Path::parent).expect("target/debug").join("fedisniff")
    })
}

/// A folder of its own for one test, also as home: no test sees another's stores, or the user's.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(tests::traces())
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("fedisniff starts")
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refuses(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn read_prints_a_line_per_exchange_and_a_summary() {
    let output = Room::new().run(&["read", SMALL]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 6, "{}", stdout(&output));
    assert!(stderr(&output).contains("6 exchanges in 136 frames"), "{}", stderr(&output));
    assert!(!stdout(&output).contains('\x1b'), "no colour into a pipe");
    let coloured = Room::new().run(&["read", SMALL, "--color", "always"]);
    assert!(stdout(&coloured).contains("\x1b["), "colour when asked for");
}

#[test]
fn json_is_one_object_per_line_with_the_fields_of_the_contract() {
    let output = Room::new().run(&["read", SMALL, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<Value> = stdout(&output).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert_eq!(line["schema"], "fedisniff.exchange/1");
        let has = |pointer: &str| assert!(line.pointer(pointer).is_some(), "{pointer} is missing in {line}");
        for field in [
            "/id",
            "/started",
            "/node",
            "/interface",
            "/protocol",
            "/client/address",
            "/client/name",
            "/server/address",
            "/server/name",
            "/origin/address",
            "/origin/name",
            "/origin/host",
            "/origin/software",
            "/request/method",
            "/request/target",
            "/request/host",
            "/request/version",
            "/request/headers/0/1",
            "/request/trailers",
            "/request/body/wire_size",
            "/request/body/size",
            "/request/body/encoding",
            "/request/body/complete",
            "/request/body/stored",
            "/request/body/sha256",
            "/response/status",
            "/response/reason",
            "/response/version",
            "/response/headers",
            "/response/trailers",
            "/response/body",
            "/timing/request_us",
            "/timing/wait_us",
            "/timing/response_us",
            "/timing/total_us",
            "/websocket",
            "/gaps",
            "/anomalies",
            "/reading/kind",
            "/reading/sentence",
            "/reading/activity",
            "/reading/signature/scheme",
            "/reading/signature/key_id",
            "/reading/signature/covered",
            "/reading/signature/verdict",
            "/reading/signature/explanation",
            "/reading/digest",
            "/reading/lints",
        ] {
            has(field);
        }
        let started = line["started"].as_str().expect("a time");
        assert!(started.len() == 30 && started.ends_with('Z'), "RFC 3339 with nanoseconds: {started}");
    }
}

#[test]
fn the_same_capture_gives_the_same_bytes_twice() {
    let once = Room::new().run(&["read", "s07-midstream-gts-traefik.pcap.zst", "--json"]);
    let twice = Room::new().run(&["read", "s07-midstream-gts-traefik.pcap.zst", "--json"]);
    assert!(once.status.success() && !once.stdout.is_empty());
    assert_eq!(stdout(&once), stdout(&twice));
}

#[test]
fn a_filter_selects_and_a_bad_one_is_refused_with_its_place() {
    let room = Room::new();
    let output = room.run(&["read", SMALL, "--json", "--filter", r#"request.method == "POST""#]);
    assert!(output.status.success(), "{}", stderr(&output));
    let all = stdout(&room.run(&["read", SMALL, "--json"]));
    let posts = all.lines().filter(|l| l.contains(r#""method":"POST""#)).count();
    assert!(posts > 0 && stdout(&output).lines().count() == posts, "{posts} posts: {}", stdout(&output));
    refuses(&room.run(&["read", SMALL, "--filter", "response.status >= "]), 2, &["--filter", "column"]);
    refuses(
        &room.run(&["read", SMALL, "--filter", "response.stauts == 1"]),
        2,
        &["response.status", "column 1"],
    );
}

#[test]
fn what_is_not_a_capture_is_refused_with_what_it_is_and_what_to_do() {
    let room = Room::new();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(room.path(name), bytes).expect("write");
        room.path(name)
    };
    refuses(&room.run(&["read", text_of(&write("empty", b""))]), 1, &["empty"]);
    refuses(
        &room.run(&["read", text_of(&write("notes.txt", b"hello\n"))]),
        1,
        &["notes.txt", "not a capture"],
    );
    refuses(&room.run(&["read", text_of(room.0.path())]), 1, &["directory"]);
    refuses(&room.run(&["read", "no-such-file.pcap"]), 1, &["no-such-file.pcap"]);
    refuses(&room.run(&["read"]), 2, &["FILE"]);
    refuses(&room.run(&["reed", SMALL]), 2, &["read"]);
}

#[test]
fn without_permission_the_file_is_named() {
    let room = Room::new();
    let file = room.path("secret.pcap");
    std::fs::copy(tests::traces().join(SMALL), &file).expect("copy");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode;
    std::fs::set_permissions(&file, mode(0o000)).expect("chmod");
    std::fs::set_permissions(room.0.path(), mode(0o755)).expect("chmod");
    // Root reads everything; nobody does not. The program is copied where nobody may run it.
    let copied = room.path("fedisniff");
    std::fs::copy(program(), &copied).expect("copy");
    std::fs::set_permissions(&copied, mode(0o755)).expect("chmod");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copied)
        .arg("read")
        .arg(&file)
        .output()
        .expect("setpriv (util-linux) runs as root");
    refuses(&output, 1, &["secret.pcap", "ermission"]);
}

#[test]
fn a_damaged_capture_gives_all_that_came_before_and_the_offset() {
    let room = Room::new();
    let whole =
        zstd::decode_all(std::fs::File::open(tests::traces().join(SMALL)).expect("open")).expect("zstd");
    let cut = room.path("cut.pcapng");
    std::fs::write(&cut, &whole[..whole.len() - 7]).expect("write");
    let output = room.run(&["read", text_of(&cut)]);
    refuses(&output, 1, &["cut.pcapng", "byte 47740"]);
    assert!(stdout(&output).lines().count() >= 5, "what came before is told: {}", stdout(&output));
    let mut flipped = whole;
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let file = room.path("flipped.pcapng");
    std::fs::write(&file, flipped).expect("write");
    let output = room.run(&["read", text_of(&file)]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn standard_input_and_compression_give_the_same_exchanges_as_the_file() {
    let room = Room::new();
    let file = stdout(&room.run(&["read", SMALL, "--json"]));
    let packed = std::fs::read(tests::traces().join(SMALL)).expect("read");
    let plain = zstd::decode_all(&packed[..]).expect("zstd");
    for bytes in [packed, plain] {
        let mut child = room
            .command(&["read", "-", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("piped").write_all(&bytes).expect("write");
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), file);
    }
}

#[test]
fn a_reader_that_leaves_early_is_not_a_failure_and_a_full_disk_is() {
    let room = Room::new();
    let mut child = room
        .command(&["read", "s15-busy-gts-traefik.pcap.zst", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = room.command(&["read", SMALL, "--json"]).stdout(full).output().expect("runs");
    refuses(&output, 1, &["standard output", "space"]);
}

#[test]
fn a_store_keeps_what_was_read_and_reading_again_adds_nothing() {
    let room = Room::new();
    let store = room.path("lab.redb");
    let first = room.run(&["read", SMALL, "--quiet", "--store", text_of(&store)]);
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(stderr(&first).contains("6 stored"), "{}", stderr(&first));
    assert_eq!(stdout(&first), "");
    let again = room.run(&["read", SMALL, "--quiet", "--store", text_of(&store)]);
    assert!(
        stderr(&again).contains("0 stored") && stderr(&again).contains("6 were there"),
        "{}",
        stderr(&again)
    );
    let direct = stdout(&room.run(&["read", SMALL, "--json"]));
    let exported = room.run(&["export", "--store", text_of(&store), "--format", "jsonl", "--unmask"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&stdout(&exported)), sorted(&direct), "the store gives back what was read");
}

#[test]
fn stores_that_cannot_be_used_are_named_with_the_reason() {
    let room = Room::new();
    let text = room.path("notes.redb");
    std::fs::write(&text, "not a store, but long enough to look at").expect("write");
    refuses(
        &room.run(&["read", SMALL, "--store", text_of(&text)]),
        1,
        &["notes.redb", "not a fedisniff store"],
    );
    assert_eq!(std::fs::read_to_string(&text).expect("read"), "not a store, but long enough to look at");
    refuses(&room.run(&["read", SMALL, "--store", text_of(room.0.path())]), 1, &[text_of(room.0.path())]);
    refuses(&room.run(&["read", SMALL, "--store", "/proc/nowhere/lab.redb"]), 1, &["/proc/nowhere/lab.redb"]);
    refuses(
        &room.run(&["serve", "--store", text_of(&room.path("none.redb"))]),
        1,
        &["none.redb", "no such store"],
    );
    assert!(!room.path("none.redb").exists(), "nothing is made by looking");
    refuses(&room.run(&["serve"]), 2, &["--store"]);
}

/// The viewer, serving; killed at the end.
struct Viewer {
    child: Child,
    address: String,
}

impl Viewer {
    fn start(room: &Room, arguments: &[&str]) -> Self {
        let mut child = room
            .command(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("fedisniff starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).expect("stderr") > 0, "it ended and said: {said}");
            said.push_str(&line);
            if let Some(at) = line.find("http://") {
                let address: String =
                    line[at + 7..].chars().take_while(|c| !c.is_whitespace() && *c != '/').collect();
                break address;
            }
        };
        // Keep the pipe open and empty, or the program would fail to write to it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, address }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut socket = std::net::TcpStream::connect(&self.address).expect("connect");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)
            .expect("write");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("read");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            assert!(Instant::now() < until, "it did not end within 10 s of {signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_viewer_shows_a_capture_and_ends_with_a_signal() {
    let room = Room::new();
    let mut viewer = Viewer::start(&room, &["read", SMALL, "--quiet", "--serve", "127.0.0.1:0"]);
    let (status, body) = viewer.get("/api/exchanges?v=all");
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(page["rows"].as_array().map(Vec::len), Some(6), "{page}");
    let id = page["rows"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(viewer.get(&format!("/api/exchanges/{id}")).0, 200);
    let (status, html) = viewer.get(&format!("/e/{id}"));
    assert!(status == 200 && html.contains("<base href"), "{html}");
    assert_eq!(viewer.signal("-INT"), Some(0));
    // The capture's own store under the state folder can be opened again by name or by being the last.
    let again = Viewer::start(&room, &["serve", "--serve", "127.0.0.1:0"]);
    assert!(again.get("/api/exchanges?v=all").1.contains(&id));
}

#[test]
fn a_port_that_is_taken_is_said_before_the_work() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    let output = Room::new().run(&["read", SMALL, "--serve", &address]);
    refuses(&output, 1, &[&address, "in use"]);
    assert_eq!(stdout(&output), "", "nothing was read yet");
    refuses(&Room::new().run(&["read", SMALL, "--serve", "nonsense"]), 2, &["nonsense"]);
}

#[test]
fn a_store_that_another_process_has_open_is_refused() {
    let room = Room::new();
    let store = room.path("lab.redb");
    let _viewer = Viewer::start(
        &room,
        &["read", SMALL, "--quiet", "--store", text_of(&store), "--serve", "127.0.0.1:0"],
    );
    refuses(&room.run(&["read", SMALL, "--store", text_of(&store)]), 1, &["lab.redb", "open"]);
}

#[test]
fn an_interrupt_ends_a_long_reading_with_what_was_read() {
    let room = Room::new();
    let store = room.path("lab.redb");
    let mut child = room
        .command(&["read", "-", "--json", "--store", text_of(&store)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let plain =
        zstd::decode_all(std::fs::File::open(tests::traces().join(SMALL)).expect("open")).expect("zstd");
    // The pipe stays open: as from a tcpdump that goes on.
    let mut pipe = child.stdin.take().expect("piped");
    pipe.write_all(&plain).expect("write");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("an exchange is told while the pipe is open");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let output = child.wait_with_output().expect("ends");
    drop(pipe);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let exported = room.run(&["export", "--store", text_of(&store), "--format", "jsonl"]);
    assert!(stdout(&exported).lines().count() >= 5, "what was read is stored: {}", stderr(&exported));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let room = Room::new();
    let store = room.path("lab.redb");
    let mut child = room
        .command(&["read", "-", "--quiet", "--store", text_of(&store), "--serve", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut pipe = child.stdin.take().expect("piped");
    let plain =
        zstd::decode_all(std::fs::File::open(tests::traces().join(SMALL)).expect("open")).expect("zstd");
    pipe.write_all(&plain).expect("write");
    let mut line = String::new();
    errors.read_line(&mut line).expect("the address is said at once for a pipe");
    let at = line.find("http://").expect("an address");
    let address: String = line[at + 7..].chars().take_while(|c| !c.is_whitespace() && *c != '/').collect();
    let viewer = Viewer { child, address };
    // What the viewer shows has been acknowledged by the store.
    let until = Instant::now() + Duration::from_secs(10);
    let shown = loop {
        let page: Value = serde_json::from_str(&viewer.get("/api/exchanges?v=all").1).expect("JSON");
        let rows = page["rows"].as_array().cloned().unwrap_or_default();
        if rows.len() >= 5 {
            break rows;
        }
        assert!(Instant::now() < until, "the exchanges of an open pipe are shown: {page}");
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(viewer);
    drop(pipe);
    let exported = room.run(&["export", "--store", text_of(&store), "--format", "jsonl"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    for row in shown {
        let id = row["id"].as_str().expect("an id");
        assert!(stdout(&exported).contains(id), "{id} was shown and is gone");
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_stored_and_says_so() {
    let room = Room::new();
    let disk = room.path("disk");
    std::fs::create_dir(&disk).expect("mkdir");
    // A file system of 4 MiB in a mount namespace of its own, which is gone with the shell.
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs '{0}' && '{1}' read s02-fedify-rfc9421-gts-traefik.pcapng.zst --quiet \
         --store '{0}/a.redb'; echo \"code $?\"; dd if=/dev/zero of='{0}/fill' bs=64k 2>/dev/null; \
         '{1}' read s15-busy-gts-traefik.pcap.zst --quiet --store '{0}/a.redb'; echo \"code $?\"; rm '{0}/fill'; \
         '{1}' export --store '{0}/a.redb' --format jsonl | wc -l",
        disk.display(),
        program().display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(tests::traces())
        .output()
        .expect("unshare runs as root");
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(text.contains("code 0") && text.contains("code 1"), "{text}");
    assert!(text.contains("a.redb"), "the file is named: {text}");
    assert!(!text.contains("panicked"), "{text}");
    let stored: usize = stdout(&output).lines().last().and_then(|l| l.trim().parse().ok()).expect("a count");
    assert!(stored >= 67, "the first capture's exchanges are still there: {text}");
}
