//! The `kdk` binary: parse, run, exit code.

fn main() -> std::process::ExitCode {
    kdk::cli::run(std::env::args_os().collect()).into()
}
