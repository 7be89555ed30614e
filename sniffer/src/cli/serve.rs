//! placeholder
use super::Face;
use crate::node::Stop;
use anyhow::{Result, bail};
use sniffer::pipeline::Counters;
use sniffer::store::Store;
use sniffer::view::Row;
use std::process::ExitCode;
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[arg(long)]
    store: Option<std::path::PathBuf>,
}
pub(super) fn run(_: Arguments) -> Result<ExitCode> {
    bail!("later")
}
pub(super) async fn bind(_a: &str) -> Result<tokio::net::TcpListener> {
    bail!("later")
}
pub(super) struct Running;
#[derive(Clone)]
pub(super) struct Publisher;
impl Publisher {
    pub(super) fn rows(&self, _r: impl Iterator<Item = Row>) {}
    pub(super) fn done(&self, _c: &Counters, _e: Option<String>) {}
    pub(super) fn progress(&self, _p: Option<u8>, _c: &Counters, _l: u64) {}
}
impl Running {
    pub(super) fn publisher(&self) -> Publisher {
        Publisher
    }
    pub(super) fn announce(&self, _open: bool) {}
    pub(super) fn shut_down(self, _r: &tokio::runtime::Runtime) {}
}
pub(super) fn start(
    _r: &tokio::runtime::Runtime,
    _l: tokio::net::TcpListener,
    _s: Store,
    _f: &Face,
    _n: Option<String>,
    _stop: &Stop,
) -> Result<Running> {
    Ok(Running)
}
