//! Helios FHIR Server, a central FHIR server of the field, over the same PostgreSQL: what a hospital group would share
//! through if it had no ledger.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    Bench,
    fhir::unpack,
    process::{Process, answers, free_port},
};

/// The version that `cargo xtask bench` installs.
pub(crate) const VERSION: &str = "0.2.7";

/// Official definitions of R4's search parameters, so that it indexes what FHIR wants.
const PARAMETERS: &str = "../shared/data/fhir/definitions-r4/search-parameters.json.bz2";

/// The server, with accesses traced as AuditEvents in the same database.
pub(crate) struct Helios {
    _process: Process,
    _definitions: TempDir,
    pub(crate) url: String,
}

impl Helios {
    /// Starts it before the database `postgres` of a PostgreSQL on `port`.
    pub(crate) async fn start(bench: &Bench, postgres: u16) -> Result<Self> {
        let binary = bench
            .helios
            .as_deref()
            .context("where its binary is, --helios does not say")?;
        let definitions = tempfile::tempdir().context("making a folder of definitions")?;
        let parameters = unpack(&bench.path(PARAMETERS))?;
        fs::write(
            definitions.path().join("search-parameters-r4.json"),
            parameters,
        )
        .context("writing the definitions")?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let process = Process::start(
            Command::new(binary)
                .args(["--host", "127.0.0.1", "--log-level", "error"])
                .args(["--port", &port.to_string()])
                .arg("--data-dir")
                .arg(definitions.path())
                .arg("--database-url")
                .arg(format!("postgresql://bench@127.0.0.1:{postgres}/postgres"))
                .env("HFS_STORAGE_BACKEND", "postgres")
                .env("HFS_AUDIT_BACKEND", "database")
                .env("HFS_BASE_URL", &url)
                .current_dir(definitions.path())
                .stdout(Stdio::null()),
        )?;
        answers(port).await.context("Helios FHIR Server")?;
        Ok(Self {
            _process: process,
            _definitions: definitions,
            url,
        })
    }
}
