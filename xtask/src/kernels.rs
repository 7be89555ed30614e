//! Loads the committed object on older kernels, in a machine of software (qemu): distributions' own kernels, a small
//! memory disk with fedisniff, `ip` and busybox, one pod behind a veth. What the machine's console says is the result.
//! Not part of `cargo xtask test`: it takes the network for the kernels, and a minute for each.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::setup;
use crate::shell::{cargo, output, root, run as run_command, scratch, which};

/// Which kernels to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the kernel whose version begins with this, as 5.15
    version: Option<String>,
    /// Seconds that a machine may take
    #[arg(long, default_value_t = 400)]
    seconds: u64,
}

/// A kernel, as its distribution publishes it.
struct Kernel {
    version: &'static str,
    from: &'static str,
    /// Packages with their SHA-256: the kernel, and its modules where they are apart.
    packages: &'static [(&'static str, &'static str)],
}

const KERNELS: &[Kernel] = &[
    Kernel {
        version: "5.10",
        from: "Debian 11",
        packages: &[(
            "http://deb.debian.org/debian/pool/main/l/linux-signed-amd64/linux-image-5.10.0-32-cloud-amd64_5.10.223-1_amd64.deb",
            "fb4a1229952d892138532c1d9f40a7fd0bd408e4dcf969c12e4524b6a89fdcb8",
        )],
    },
    Kernel {
        version: "5.15",
        from: "Ubuntu 22.04",
        packages: &[
            (
                "http://archive.ubuntu.com/ubuntu/pool/main/l/linux/linux-image-unsigned-5.15.0-25-generic_5.15.0-25.25_amd64.deb",
                "ac69df20790c48217eb1386ef81fd10d3f20a4ede4dab81cc107c65d29549fa0",
            ),
            (
                "http://archive.ubuntu.com/ubuntu/pool/main/l/linux/linux-modules-5.15.0-25-generic_5.15.0-25.25_amd64.deb",
                "d0ba4087d9e1d497925b3481d3531fba6c2a852855f8019d73b0b1385aa4da1f",
            ),
        ],
    },
    Kernel {
        version: "6.1",
        from: "Debian 12",
        packages: &[(
            "http://deb.debian.org/debian/pool/main/l/linux-signed-amd64/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
            "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee",
        )],
    },
    Kernel {
        version: "6.12",
        from: "Debian 13",
        packages: &[(
            "http://deb.debian.org/debian/pool/main/l/linux-signed-amd64/linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb",
            "e9893e5295d0549b8852611f12a4b8b5f6cc4b8128dcc2086b9847793b904ab7",
        )],
    },
];

/// Modules that distributions do not build in, in the order of loading.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf"];

/// What the machine does. It prints what fedisniff printed, between marks.
const INIT: &str = include_str!("kernels.sh");

/// Tries them.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::for_kernels()?;
    run_command(cargo().args(["build", "--locked", "-p", "sniffer", "--bin", "fedisniff"]))
        .context("build fedisniff")?;
    let wanted = |kernel: &&Kernel| {
        options.version.as_ref().is_none_or(|version| kernel.version.starts_with(version.as_str()))
    };
    let kernels: Vec<&Kernel> = KERNELS.iter().filter(wanted).collect();
    ensure!(!kernels.is_empty(), "no such kernel here; there are 5.10, 5.15, 6.1 and 6.12");
    let mut failed = Vec::new();
    for kernel in kernels {
        match try_one(kernel, Duration::from_secs(options.seconds)) {
            Ok(said) => println!("Linux {} ({}): ok: {said}", kernel.version, kernel.from),
            Err(error) => {
                println!("Linux {} ({}): FAILED: {error:#}", kernel.version, kernel.from);
                failed.push(kernel.version);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed on {}", failed.join(", ")) }
}

fn try_one(kernel: &Kernel, patience: Duration) -> Result<String> {
    let folder = scratch(&format!("kernels/{}", kernel.version))?;
    let unpacked = folder.join("unpacked");
    for (url, sha256) in kernel.packages {
        let file = folder.join(url.rsplit('/').next().unwrap_or(url));
        fetch(url, sha256, &file)?;
        run_command(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
    }
    let vmlinuz =
        find(&unpacked, &|name| name.starts_with("vmlinuz"))?.context("no kernel in the package")?;
    let disk = memory_disk(&folder, &unpacked)?;
    let console = folder.join("console.log");
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-m", "1024", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none", "-cpu", "max"])
        .args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"])
        .arg("-kernel")
        .arg(&vmlinuz)
        .arg("-initrd")
        .arg(&disk)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&console)?)
        .stderr(Stdio::inherit())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let begin = Instant::now();
    while machine.try_wait()?.is_none() {
        if begin.elapsed() > patience {
            machine.kill()?;
            machine.wait()?;
            bail!("it did not end in {} s; its console: {}", patience.as_secs(), console.display());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = String::from_utf8_lossy(&std::fs::read(&console)?).into_owned();
    judge(kernel, &said).with_context(|| format!("its console: {}", console.display()))
}

/// What the console must say: the kernel's version, one whole exchange, nothing lost, nothing left behind.
fn judge(kernel: &Kernel, said: &str) -> Result<String> {
    let between = |name: &str| {
        let (_, rest) = said.split_once(&format!("== {name}"))?;
        Some(rest.split("\n== ").next()?.trim().replace('\r', ""))
    };
    let version = between("kernel").context("it did not boot")?;
    ensure!(version.starts_with(kernel.version), "it is {version}");
    let errors = between("said").unwrap_or_default();
    let exchanges = between("exchanges").unwrap_or_default();
    let lines: Vec<serde_json::Value> =
        exchanges.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [exchange] = lines.as_slice() else {
        bail!("{} exchanges, expected one. It said: {errors}", lines.len())
    };
    let text = |at: &str| exchange.pointer(at).map(ToString::to_string).unwrap_or_default();
    ensure!(
        text("/request/target") == "\"/note.json\"" && text("/response/status") == "200",
        "told {exchange}"
    );
    ensure!(text("/response/body/complete") == "true", "the body is not whole: {exchange}");
    ensure!(errors.contains(" 0 lost (0 octets)"), "packets were lost: {errors}");
    let left = between("left").unwrap_or_default();
    ensure!(!left.contains("fs_"), "left behind: {left}");
    let how = if errors.contains("by TCX") { "TCX" } else { "clsact" };
    // Denial takes TCX.
    let denies = between("denies").unwrap_or_default();
    ensure!(
        how != "TCX" || denies.contains("What policies do not allow is told"),
        "it does not take the programs that deny: {denies}"
    );
    Ok(format!("{version}, attached by {how}, one exchange told whole"))
}

fn fetch(url: &str, sha256: &str, file: &Path) -> Result<()> {
    let sum = |file: &Path| {
        output(Command::new("sha256sum").arg(file))
            .map(|text| text.split(' ').next().unwrap_or_default().to_owned())
    };
    if file.exists() && sum(file)? == sha256 {
        return Ok(());
    }
    run_command(
        Command::new("curl")
            .args(["--fail", "--silent", "--show-error", "--retry", "3", "--output"])
            .arg(file)
            .arg(url),
    )
    .with_context(|| format!("fetch {url}"))?;
    let found = sum(file)?;
    ensure!(found == sha256, "{url} has the SHA-256 {found}, expected {sha256}");
    Ok(())
}

/// The first file below a folder whose name fits.
fn find(folder: &Path, fits: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find(&entry.path(), fits)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && fits(&entry.file_name().to_string_lossy()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// A memory disk (initramfs) with what the machine needs.
fn memory_disk(folder: &Path, unpacked: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    let _ = std::fs::remove_dir_all(&tree);
    for part in ["bin", "modules", "proc", "sys", "run", "dev", "tmp", "www", "etc"] {
        std::fs::create_dir_all(tree.join(part))?;
    }
    std::fs::write(tree.join("init"), INIT)?;
    std::fs::set_permissions(tree.join("init"), std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(tree.join("www/note.json"), "{\"type\":\"Note\",\"content\":\"hello\"}\n")?;
    for (number, module) in MODULES.iter().enumerate() {
        let fits = |name: &str| name.split('.').next() == Some(module) && name.contains(".ko");
        let Some(found) = find(unpacked, &fits)? else { continue };
        let into = tree.join(format!("modules/{number}-{module}.ko"));
        if found.extension().is_some_and(|e| e == "xz") {
            let plain = Command::new("xz").args(["--decompress", "--stdout"]).arg(&found).output()?;
            ensure!(plain.status.success(), "xz could not unpack {}", found.display());
            std::fs::write(&into, plain.stdout)?;
        } else {
            std::fs::copy(&found, &into)?;
        }
    }
    let busybox = which("busybox").context("busybox")?;
    std::fs::copy(busybox, tree.join("bin/busybox"))?;
    for program in [root().join("target/debug/fedisniff"), which("ip").context("ip")?] {
        let name = program.file_name().context("a program's name")?;
        let into = tree.join("bin").join(name);
        std::fs::copy(&program, &into)?;
        run_command(Command::new("strip").arg(&into))?;
        for library in libraries(&program)? {
            let into = tree.join(library.strip_prefix("/").unwrap_or(&library));
            std::fs::create_dir_all(into.parent().context("a library's folder")?)?;
            std::fs::copy(&library, &into).with_context(|| format!("copy {}", library.display()))?;
        }
    }
    let disk = folder.join("disk.cpio");
    let script = format!(
        "cd '{}' && find . | busybox cpio -o -H newc > '{}' 2>/dev/null",
        tree.display(),
        disk.display()
    );
    run_command(Command::new("sh").args(["-c", &script]))?;
    Ok(disk)
}

/// The libraries that a program is linked with, and the loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program))?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    let found: Vec<PathBuf> = text.lines().filter_map(path).collect();
    let mut missing = String::new();
    for line in text.lines().filter(|l| l.contains("not found")) {
        writeln!(missing, "{}", line.trim())?;
    }
    ensure!(missing.is_empty(), "{}: {missing}", program.display());
    Ok(found)
}
