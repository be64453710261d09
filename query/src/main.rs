//! `taffrail`: asks a collector for logs and metrics, and starts a small Taffrail on a laptop
//! (`taffrail up`).
//!
//! Exit codes are grep's: 0 something was found, 1 nothing was, 2 an error.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(arguments)),
        Err(error) => cli::exit_code(&Err(cli::Error::Start(error))),
    }
}
