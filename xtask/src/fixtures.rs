//! `cargo xtask fixtures`: compiles the tables that the repository carries.

mod search;
mod structures;

use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes every compiled table anew from the official FHIR R4 definitions, which lie beside the
/// repository unless another folder is named.
///
/// # Errors
/// When the definitions are missing or a table cannot be written.
pub(crate) fn run(definitions: Option<&str>) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("finding the repository")?;
    let definitions = match definitions {
        Some(path) => path.into(),
        None => root.join("../shared/data/fhir/definitions-r4"),
    };
    let out = root.join("crates/fhir/definitions");
    std::fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    structures::generate(&definitions, &out)?;
    search::generate(&definitions, &out)
}
