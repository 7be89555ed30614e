//! Every developer command of fedisniff, as `cargo xtask COMMAND`: what a person types and what CI runs are the same.
//! One file per command; nothing here is part of the product.

mod bench;
mod ci;
mod cluster;
mod ebpf;
mod fixtures;
mod fuzz;
mod kernels;
mod lab;
mod netns;
mod setup;
mod shell;
mod test;
mod tidy;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer commands of fedisniff", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests and benchmarks need (Debian or Ubuntu); quick when all is there
    Setup,
    /// Run every check and test, with a summary
    Test(test::Options),
    /// What CI runs: setup, then test
    Ci(test::Options),
    /// Run the tidy test alone: the house's rules
    Tidy,
    /// Build the web viewer into ui/dist, or check that it is up to date
    Ui(ui::Options),
    /// Build the kernel's programs into sniffer-ebpf/object, or check that they are up to date
    Ebpf(ebpf::Options),
    /// Load the kernel's programs on older kernels, in qemu (fetches the kernels)
    Kernels(kernels::Options),
    /// Run fuzz targets (all of them, or one)
    Fuzz(fuzz::Options),
    /// Run the golden-file tests; with --bless, renew the files
    Fixtures(fixtures::Options),
    /// Real fediverse servers behind a real proxy in network namespaces: to play with, and for tests
    Lab(lab::Options),
    /// The real API server, kube-proxy and kube-router over nodes of network namespaces: to play with, and for tests
    Cluster(cluster::Options),
    /// Measure speed, memory, recovery and more, beside other programs
    Bench(bench::Options),
    /// Run a program and write what it cost as JSON (used by bench: a small parent makes the figures its own)
    #[command(hide = true)]
    Measure(bench::measure::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Test(options) => test::run(&options),
        Command::Ci(options) => ci::run(&options),
        Command::Tidy => tidy::run(),
        Command::Ui(options) => ui::run(&options),
        Command::Ebpf(options) => ebpf::run(&options),
        Command::Kernels(options) => kernels::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Fixtures(options) => fixtures::run(&options),
        Command::Lab(options) => lab::run(&options),
        Command::Cluster(options) => cluster::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Measure(options) => bench::measure::run(&options),
    };
    // Without the backtrace that RUST_BACKTRACE adds to an error: what failed is another program, named in the text.
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
