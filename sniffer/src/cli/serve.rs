//! `fedisniff serve`: the viewer over a store; and what `read --serve` shares with it.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use sniffer::store::{Options, Store};
use sniffer::viewer::{self, Publisher, SourceKind, Status, Viewer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{DEFAULT_ADDRESS, Face, Usage, export};
use crate::node::Stop;

/// Open the web viewer over a store.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The store; by default the one under the state folder that was used last.
    #[arg(long, value_name = "DB")]
    store: Option<PathBuf>,
    /// The address to listen at.
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_ADDRESS)]
    serve: String,
    #[command(flatten)]
    face: Face,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = super::runtime()?;
    let stop = Stop::on_signals(runtime.handle())?;
    let path = super::given_or_last_store(arguments.store)?;
    let store = Store::open(&path, Options { must_exist: true, ..Options::default() })?;
    let listener = runtime.block_on(bind(&arguments.serve))?;
    let mut status = Status::new(SourceKind::Store, super::file_name(&path));
    status.started = super::wall_clock();
    let running = start(&runtime, listener, store, &arguments.face, status, &stop)?;
    running.announce(arguments.face.open);
    runtime.block_on(stop.wait());
    running.shut_down(&runtime)?;
    Ok(ExitCode::SUCCESS)
}

/// Listens. `8080` and `:8080` mean loopback.
pub(super) async fn bind(address: &str) -> Result<TcpListener> {
    let given = match address.strip_prefix(':').unwrap_or(address).parse::<u16>() {
        Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
        Err(_) => {
            let resolved =
                if address.contains(':') { tokio::net::lookup_host(address).await.ok() } else { None };
            resolved.and_then(|mut all| all.next()).ok_or_else(|| {
                Usage(format!(
                    "--serve {address}: not an address; write IP:PORT, as {DEFAULT_ADDRESS}, or a port"
                ))
            })?
        }
    };
    TcpListener::bind(given).await.map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use; give another with --serve ADDR",
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root; give another with --serve ADDR"
            }
            std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
            _ => return anyhow::Error::new(error).context(format!("listen at {given}")),
        };
        anyhow::anyhow!("cannot listen at {given}: {help}")
    })
}

/// A viewer that is being served.
pub(super) struct Running {
    viewer: Viewer,
    serving: JoinHandle<std::io::Result<()>>,
    url: String,
    /// The token was made here, so whoever reads the terminal must learn it.
    made_token: bool,
}

/// Starts to serve `store`; a token is made when the address can be reached from elsewhere and none was given.
pub(super) fn start(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    store: Store,
    face: &Face,
    status: Status,
    stop: &Stop,
) -> Result<Running> {
    let address = listener.local_addr().context("the viewer's address")?;
    let made_token = face.token.is_none() && !address.ip().to_canonical().is_loopback();
    let token = match &face.token {
        Some(token) if token.is_empty() => {
            return Err(Usage("--token: an empty token protects nothing".into()).into());
        }
        Some(token) => Some(token.clone()),
        None if made_token => Some(viewer::new_token().context("make a token")?),
        None => None,
    };
    let shown = if address.ip().is_unspecified() {
        // Reachable by any address of the machine; the reader of this terminal is most likely on it.
        SocketAddr::new(
            if address.is_ipv6() { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() },
            address.port(),
        )
    } else {
        address
    };
    let query = token.as_deref().filter(|_| made_token).map(|t| format!("?token={t}")).unwrap_or_default();
    let base = face.base_path.trim_matches('/');
    let url = format!("http://{shown}/{base}{}{query}", if base.is_empty() { "" } else { "/" });
    let viewer = Viewer::new(
        store,
        viewer::Options {
            token,
            allow_hosts: face.allow_host.clone(),
            base_path: face.base_path.clone(),
            exporter: Some(Arc::new(export::for_viewer)),
        },
        status,
    );
    let until = stop.clone();
    let serving = runtime.spawn(viewer::serve(listener, viewer.clone(), async move { until.wait().await }));
    Ok(Running { viewer, serving, url, made_token })
}

impl Running {
    /// The producer's end.
    pub(super) fn publisher(&self) -> Publisher {
        self.viewer.publisher()
    }

    /// Says where the viewer is, and opens it in the browser when asked to.
    pub(super) fn announce(&self, open: bool) {
        let token = if self.made_token {
            " (whoever has this address sees everything: it holds the token)"
        } else {
            ""
        };
        eprintln!("The viewer is at {}{token}. Ctrl-C ends it.", self.url);
        if open && let Err(error) = open_browser(&self.url) {
            eprintln!("It could not be opened in a browser ({error}); open the address by hand.");
        }
    }

    /// Waits until open answers have ended.
    pub(super) fn shut_down(self, runtime: &tokio::runtime::Runtime) -> Result<()> {
        runtime.block_on(self.serving).context("the viewer")?.context("serve the viewer")
    }
}

/// The desktop's own opener. On a machine without a desktop there is none, which is said and is no failure.
fn open_browser(url: &str) -> Result<()> {
    if std::env::var_os("DISPLAY").is_none()
        && std::env::var_os("WAYLAND_DISPLAY").is_none()
        && cfg!(target_os = "linux")
    {
        anyhow::bail!("no desktop is running here");
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let nowhere = std::process::Stdio::null;
    std::process::Command::new(opener)
        .arg(url)
        .stdin(nowhere())
        .stdout(nowhere())
        .stderr(nowhere())
        .spawn()
        .with_context(|| format!("start {opener}"))?;
    if std::io::stderr().is_terminal() {
        eprintln!("Opening it in the browser.");
    }
    Ok(())
}
