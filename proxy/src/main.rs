//! The `longshore` command: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

/// Small, short-lived allocations on many threads are what the gateway makes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    longshore::cli::main()
}
