//! `fedisniff`: watches fediverse servers talk, and explains every exchange in ActivityPub's own terms.

mod cli;
mod node;

/// Many short-lived allocations of mixed sizes on two threads: measured faster here than the system's allocator, and
/// it gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
