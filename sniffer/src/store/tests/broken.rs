//! What can go wrong: killed writers, failing disks, files that are no store, and other processes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};

use redb::StorageBackend;

use super::*;

/// Batches of the child that is killed.
const BATCH: u64 = 29;

fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env("FEDISNIFF_TEST_STORE", path).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Not a test by itself: the process that `a_killed_writer_loses_nothing_that_it_acknowledged` starts and kills.
#[test]
fn the_child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("FEDISNIFF_TEST_STORE") else { return };
    let store = Store::open(Path::new(&path), Options { max_bytes: 3 << 20, ..Options::default() }).unwrap();
    let first = store.stats().unwrap();
    let done = (first.exchanges + first.expired) / BATCH;
    for b in done.. {
        let batch: Vec<Told> = (b * BATCH..(b + 1) * BATCH).map(|n| told(n, 1_000_000)).collect();
        store.append(&batch).unwrap();
        println!("\nstored {b}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let at = place();
    let mut acknowledged = None;
    for round in 0..6_u64 {
        let mut child = child("store::tests::broken::the_child_that_writes_until_it_is_killed", &at.path)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let Ok(line) = line else { break };
            if let Some(b) = line.strip_prefix("stored ") {
                acknowledged = Some(b.parse::<u64>().unwrap());
                seen += 1;
                if seen == 5 + round * 7 {
                    // SIGKILL, while it is writing the next ones.
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let expected = (acknowledged.expect("it wrote something") + 1) * BATCH;
        let store = Store::open(&at.path, Options { max_bytes: 0, ..Options::default() }).unwrap();
        let stats = store.stats().unwrap();
        let total = stats.exchanges + stats.expired;
        assert!(total >= expected, "{total} of {expected} acknowledged");
        assert_eq!(total % BATCH, 0, "a batch was stored in part");
        let all = everything(&store);
        assert_eq!(all.len() as u64, stats.exchanges);
        let mut written: std::collections::HashMap<ExchangeId, Told> =
            (0..total).map(|n| told(n, 1_000_000)).map(|told| (told.exchange.id, told)).collect();
        for stored in all {
            assert_eq!(Some(&stored), written.remove(&stored.exchange.id).as_ref(), "only what was written");
        }
    }
}

/// Not a test by itself: the second process of the next one.
#[test]
fn the_child_that_finds_the_store_locked() {
    let Some(path) = std::env::var_os("FEDISNIFF_TEST_STORE") else { return };
    match Store::open(Path::new(&path), Options::default()) {
        Err(Error::Locked { .. }) => println!("\nlocked"),
        other => println!("\n{other:?}"),
    }
}

#[test]
fn a_second_process_is_told_that_the_store_is_open_elsewhere() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    store.append(&[told(1, 1)]).unwrap();
    let output =
        child("store::tests::broken::the_child_that_finds_the_store_locked", &at.path).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains("\nlocked\n"), "{output}");
    assert!(matches!(Store::open(&at.path, Options::default()), Err(Error::Locked { .. })));
    drop(store);
    assert_eq!(Store::open(&at.path, Options::default()).unwrap().stats().unwrap().exchanges, 1);
}

#[test]
fn what_is_no_store_is_said_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open =
        |name: &str, must_exist| Store::open(&path(name), Options { must_exist, ..Options::default() });

    assert!(matches!(open("none", true), Err(Error::Missing { .. })));
    assert!(!path("none").exists());

    std::fs::create_dir(path("folder")).unwrap();
    assert!(matches!(open("folder", false), Err(Error::Io { .. })));
    assert!(matches!(open("no-folder/store", false), Err(Error::Io { .. })));

    for (name, bytes) in [
        ("text", b"hello, world\n".repeat(1000)),
        ("short", b"x".to_vec()),
        ("zeros", vec![0; 10_000]),
        ("almost", [b"redb\x1a\x0a\xa9\x0d\x0a".to_vec(), vec![7; 9000]].concat()),
    ] {
        std::fs::write(path(name), &bytes).unwrap();
        let error = open(name, false).expect_err(name);
        assert!(matches!(error, Error::NotAStore { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name));
        assert_eq!(std::fs::read(path(name)).unwrap(), bytes, "{name} was changed");
    }

    std::fs::write(path("empty"), b"").unwrap();
    assert!(matches!(open("empty", true), Err(Error::NotAStore { .. })));
    assert!(open("empty", false).is_ok());

    {
        let db = redb::Database::create(path("other")).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(redb::TableDefinition::<&str, u64>::new("things")).unwrap().insert("a", 1).unwrap();
        txn.commit().unwrap();
    }
    let error = open("other", false).unwrap_err();
    assert!(
        matches!(error, Error::NotAStore { .. }) && error.to_string().contains("another program"),
        "{error}"
    );

    drop(open("newer", false).unwrap());
    {
        let db = redb::Database::open(path("newer")).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(tables::META).unwrap().insert("format", tables::FORMAT + 1).unwrap();
        txn.commit().unwrap();
    }
    let error = open("newer", false).unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 2, known: 1, .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn a_store_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let at = place();
    let _store = Store::open(&at.path, Options::default()).unwrap();
    assert_eq!(std::fs::metadata(&at.path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A disk in memory that fails for good after so many operations.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    left: Arc<AtomicI64>,
}

impl Disk {
    fn new(left: i64) -> Self {
        Self { bytes: Arc::default(), left: Arc::new(AtomicI64::new(left)) }
    }

    fn use_up(&self) -> Result<(), std::io::Error> {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(std::io::Error::other("the disk is gone"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.use_up()?;
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.use_up()?;
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.use_up()?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.use_up()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.use_up()?;
        self.bytes.lock().unwrap()[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn open_disk(disk: &Disk) -> Result<Store, Error> {
    let path = Path::new("disk");
    let db = redb::Database::builder()
        .create_with_backend(disk.clone())
        .map_err(|e| tables::database_error_of(path, "open it", e.into()))?;
    Store::start(path, db, Options { max_bytes: 600 << 10, ..Options::default() })
}

#[test]
fn a_failing_disk_is_an_error_and_loses_nothing_that_was_acknowledged() {
    for operations in (20..900).step_by(41) {
        let disk = Disk::new(operations);
        let mut stored = 0;
        if let Ok(store) = open_disk(&disk) {
            for b in 0..60 {
                let batch: Vec<Told> = (b * 40..(b + 1) * 40).map(|n| told(n, 1_000_000)).collect();
                match store.append(&batch) {
                    Ok(n) => stored += n as u64,
                    Err(error) => {
                        assert!(matches!(error, Error::Io { .. }), "{error}");
                        assert!(store.append(&batch).is_err(), "it goes on as if nothing was");
                        let _ = store.page(&all());
                        break;
                    }
                }
            }
        }
        disk.left.store(i64::MAX, Ordering::SeqCst);
        let store = open_disk(&disk).unwrap();
        let stats = store.stats().unwrap();
        assert!(stats.exchanges + stats.expired >= stored, "after {operations} operations");
        assert_eq!((stats.exchanges + stats.expired) % 40, 0);
        assert_eq!(everything(&store).len() as u64, stats.exchanges);
        // And it is as good as new.
        assert_eq!(store.append(&[told(100_000, 1_000_000)]).unwrap(), 1);
    }
}

/// Octets that changed on the disk are an error where they are met, or make no difference; nothing panics or hangs.
#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let at = place();
    let store = Store::open(&at.path, Options::default()).unwrap();
    for b in 0..5 {
        let batch: Vec<Told> = (b * 100..(b + 1) * 100).map(|n| told(n, 1_000_000)).collect();
        store.append(&batch).unwrap();
    }
    drop(store);
    let whole = std::fs::read(&at.path).unwrap();
    let damaged_at = at.path.with_extension("damaged");
    let mut refused = 0;
    for round in 0..60_u64 {
        let mut bytes = whole.clone();
        for n in 0..1 + round % 8 {
            let place = (mix(round * 100 + n) % bytes.len() as u64) as usize;
            bytes[place] ^= 1 << (round % 8);
        }
        if round % 10 == 9 {
            bytes.truncate(bytes.len() / 2);
        }
        std::fs::write(&damaged_at, &bytes).unwrap();
        let use_it = || -> Result<(), Error> {
            let store = Store::open(&damaged_at, Options::default())?;
            store.page(&all())?;
            store.for_each(&all(), &mut |_| true)?;
            store.append(&[told(9_999, 1_000_000)])?;
            store.stats()?;
            Ok(())
        };
        if let Err(error) = use_it() {
            assert!(matches!(error, Error::NotAStore { .. } | Error::Io { .. }), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 5, "{refused}");
}
