//! The project's own tasks: `cargo xtask test|bench|sim|kill|tidy|fixtures`.

mod bench;
mod fixtures;
mod test;
mod tidy;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask <task>

  test                    every test there is; first installs what they need
  bench [--smoke] [NAME…] what it costs and how fast it is, beside others in the same run
  sim --seeds N [--from S] consortia that crash, split and lie, one for each seed
  kill --rounds N         kill -9 during an import, as often as wanted
  tidy                    arrows between crates, lock file, tracked files
  fixtures [DEFINITIONS]  compile the official FHIR definitions into crates/fhir/definitions";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is in the workspace")?;
    match arguments.first().map(String::as_str) {
        Some("test") => test::run(root, arguments.get(1..).unwrap_or_default()),
        Some("bench") => bench::run(root, arguments.get(1..).unwrap_or_default()),
        Some("sim") => test::sim(root, arguments.get(1..).unwrap_or_default()),
        Some("kill") => test::kill(root, arguments.get(1..).unwrap_or_default()),
        Some("tidy") => tidy::run(root),
        Some("fixtures") => fixtures::run(arguments.get(1).map(String::as_str)),
        _ => bail!("{USAGE}"),
    }
}

/// Tells the person at the terminal what goes on.
#[expect(clippy::print_stdout, reason = "tasks talk to a person at a terminal")]
fn say(text: &str) {
    println!("{text}");
}
