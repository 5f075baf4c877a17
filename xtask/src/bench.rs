//! `cargo xtask bench [--smoke] [NAME…]`: builds what is measured, installs its peers at exact versions, runs
//! `bench/`.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{
    say,
    test::{cargo, install, step},
};

/// Runs the benchmarks named, or all. What follows is handed on: see `stele-bench --help`.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    postgres()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    step(
        "the node, and the chain's own figures",
        cargo(root).args([
            "build",
            "--release",
            "--workspace",
            "--bin",
            "stele",
            "--example",
            "throughput",
        ]),
    )?;
    let bench = root.join("bench");
    step(
        "the benchmarks",
        cargo(&bench)
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(target.join("bench")),
    )?;
    let peers = bench.join("peers");
    let installing = "peers from the npm registry, at the exact versions of the lock file";
    install(installing, &peers)?;
    let caliper = is_wanted("caliper", arguments);
    if caliper || is_wanted("ethereum", arguments) {
        install(installing, &root.join("e2e"))?;
    }
    if caliper {
        install(installing, &root.join("e2e/caliper/tool"))?;
    }
    let helios = match is_wanted("share", arguments) {
        true => Some(helios(&target.join("bench"))?),
        false => None,
    };
    step(
        "measuring",
        Command::new(target.join("bench/release/stele-bench"))
            .arg("--stele")
            .arg(target.join("release/stele"))
            .arg("--throughput")
            .arg(target.join("release/examples/throughput"))
            .arg("--peers")
            .arg(&peers)
            .arg("--root")
            .arg(root)
            .arg("--out")
            .arg(root.join("target/bench"))
            .args(
                helios
                    .iter()
                    .flat_map(|binary| [OsStr::new("--helios"), binary.as_os_str()]),
            )
            .args(arguments),
    )
}

/// A central FHIR server from crates.io, which sharing is measured beside; where its binary is.
fn helios(target: &Path) -> Result<PathBuf> {
    const VERSION: &str = "0.2.7";
    let root = target.join(format!("helios-{VERSION}"));
    let binary = root.join("bin/hfs");
    if !binary.exists() {
        step(
            "Helios FHIR Server, once: this takes half an hour on two cores",
            Command::new("cargo")
                .args(["install", "helios-hfs", "--locked", "--version", VERSION])
                .args(["--no-default-features", "--features", "R4,sqlite,postgres"])
                .arg("--root")
                .arg(&root)
                .arg("--target-dir")
                .arg(target.join("helios")),
        )?;
    }
    Ok(binary)
}

/// Whether a benchmark is among those named; without names all are. Flags and their values begin with no letter.
fn is_wanted(name: &str, arguments: &[String]) -> bool {
    let mut names = arguments
        .iter()
        .filter(|argument| argument.starts_with(|first: char| first.is_ascii_lowercase()))
        .peekable();
    names.peek().is_none() || names.any(|one| one == name)
}

/// The central database that sharing is measured beside.
fn postgres() -> Result<()> {
    if Path::new("/usr/lib/postgresql").exists() {
        return Ok(());
    }
    say("\n== PostgreSQL, which sharing is measured beside");
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout == b"0\n");
    if !is_root {
        bail!("the benchmarks need a Debian package; install it with: apt-get install postgresql");
    }
    step(
        "package lists",
        Command::new("apt-get").args(["update", "-q"]),
    )?;
    step(
        "PostgreSQL from Debian",
        Command::new("apt-get")
            .args(["install", "-qy", "--no-install-recommends", "postgresql"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()),
    )
}
